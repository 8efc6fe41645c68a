"""Models: the protocol, the provider's, the scripted one."""
