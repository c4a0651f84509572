"""A machine measured through the real pipeline, and what that says of others and of cost."""
