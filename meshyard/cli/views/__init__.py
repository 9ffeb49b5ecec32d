"""What people see. Nothing here asks the service for anything."""
