"""The demo: a whole installation with its own fake providers and customers, on one machine."""
