"""Every operation of the client, as flows."""
