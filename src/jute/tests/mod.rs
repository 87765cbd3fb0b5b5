//! Bytes that ZooKeeper's own classes made, random values there and back, and bytes that nobody should send.
