"""What the documentation site is generated from; `site.py` is the hook of MkDocs."""
