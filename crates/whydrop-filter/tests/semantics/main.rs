//! What compiled filters mean: the same as in tcpdump, and the same in the kernel's instructions.

mod corpus;
mod ebpf;
mod machine;
mod tcpdump;
