"""Where keys and values live, and how runs reach them: this machine's memory, or a device's own."""
