"""What suppliers send to us: webhooks and uploads, taken by a small HTTP server beside the feeds."""
