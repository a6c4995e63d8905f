"""Training algorithms: each a pure `init`/`step` pair over one carry."""
