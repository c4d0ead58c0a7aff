"""What the plugin itself serves over HTTP."""
