"""M14: the assistant as a server, with everything below it."""
