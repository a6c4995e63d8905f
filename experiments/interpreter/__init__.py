"""How fast programs are judged: inside jit, in plain Python, in the sandbox."""
