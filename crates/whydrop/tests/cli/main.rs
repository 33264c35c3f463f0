//! The program as its user meets it: run from outside, judged by what it prints, where, and by its
//! exit status.

mod bad_input;
mod beside;
mod explain;
mod faults;
mod fix;
mod flood;
mod hostile;
mod lab;
mod owners;
mod privilege;
mod program;
mod replay;
mod shell;
mod sockets;
mod top;
mod watch;
mod window;
