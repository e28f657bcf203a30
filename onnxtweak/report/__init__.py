"""How results read: on a terminal, in Markdown, as JSON."""
