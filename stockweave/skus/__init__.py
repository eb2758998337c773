"""What suppliers' SKUs are called with us: imported, looked at, changed."""
