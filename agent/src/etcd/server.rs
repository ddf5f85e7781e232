//! A real etcd for tests, from the testbed's binaries.
