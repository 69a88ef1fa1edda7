"""The report, and its views: text, JSON and a page."""
