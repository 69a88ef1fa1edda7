"""That the helpers beside this file are found by the tests of every folder."""
