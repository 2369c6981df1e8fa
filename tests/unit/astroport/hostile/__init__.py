"""A corpus of hostile balises: what an ill-meaning or broken station publishes under its own name. THREATS 19."""
