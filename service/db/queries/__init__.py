"""Every statement the service sends, by what it is about. Plain functions over a `Connection`."""
