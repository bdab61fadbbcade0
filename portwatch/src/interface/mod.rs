//! The control socket: protocol, bounded server, client.
