"""The database's schema, step by step. Run by `service.db.migration`."""
