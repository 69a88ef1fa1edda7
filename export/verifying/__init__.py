"""Does a file compute what its model computes, and where does it begin to differ?"""
