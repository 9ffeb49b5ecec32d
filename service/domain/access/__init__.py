"""Who may do what: callers, their keys and projects, what they have used, and what they have changed."""
