//! HTTP, as clients make it, well-behaved or not.

use serde::{Deserialize, Serialize};

/// HTTP, one request per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HttpShort {
    /// Connections in all.
    pub(crate) connections: u32,
    /// Connections at a time.
    pub(crate) concurrency: u32,
    /// New connections per second; absent for as fast as can be.
    pub(crate) rate: Option<u32>,
}

/// HTTP, many requests on every connection, all connections at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HttpKeepAlive {
    /// How many connections.
    pub(crate) connections: u32,
    /// Requests on each.
    pub(crate) requests: u32,
    /// From an answer to the next request.
    #[serde(default)]
    pub(crate) pause_millis: u64,
}

/// HTTP clients that go away in the middle, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HttpAbort {
    /// How many.
    pub(crate) connections: u32,
    /// When they go.
    pub(crate) when: Abort,
}

/// When a client goes away. Its kernel says RST in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Abort {
    /// Right after its request.
    BeforeAnswer,
    /// Once the answer is there, which it does not read.
    AnswerUnread,
    /// After the first bytes of an answer that is still on its way.
    MidAnswer,
}
