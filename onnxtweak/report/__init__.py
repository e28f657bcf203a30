"""How does a result read: on a terminal, in Markdown, as JSON, as a page, in CI?

schema       JSON, schema 1
text         what is worth saying, on a terminal and in Markdown
promises     how a verdict reads
changes      which classes gain, and which pay
page         one HTML page, from the JSON alone
model_card   a section for a model card
artefacts    metrics, summary, JUnit, provenance: what other programs read
markup       text as safe HTML
"""
