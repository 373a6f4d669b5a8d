"""Who is calling: passwords, sessions, API tokens, and the guard before every endpoint."""
