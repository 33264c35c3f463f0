//! What the shape of a scenario file cannot rule out: names that refer to nothing, and parts that
//! do not go together.

use whydrop_model::Class;

use super::Scenario;
use crate::counters::CounterName;

/// Longest name that `/proc/PID/comm` can hold.
const COMM: usize = 15;
/// Most connections that a piece of traffic may open: each needs a file in either process.
const CONNECTIONS: u32 = 800;

impl Scenario {
    /// Says what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_servers()?;
        self.check_names()?;
        self.check_traffic()?;
        self.check_expectations()
    }

    fn check_role(&self, role: &str) -> Result<(), String> {
        if self.topology.roles().contains(&role) {
            return Ok(());
        }
        Err(format!("`{role}` is not a role of this topology"))
    }

    fn check_server(&self, name: &str) -> Result<(), String> {
        self.server(name).map(|_| ()).ok_or_else(|| format!("there is no server `{name}`"))
    }

    fn check_names(&self) -> Result<(), String> {
        let remedied = self.remedy.iter().flat_map(|remedy| remedy.sysctl.keys());
        let set = self.sysctl.keys().chain(self.sysctl_after_listen.keys()).chain(remedied);
        for role in set {
            self.check_role(role)?;
        }
        let remedied = self.remedy.iter().flat_map(|remedy| remedy.counters.keys());
        for CounterName { role, .. } in self.watched().iter().chain(remedied) {
            self.check_role(role)?;
        }
        for name in self.remedy.iter().flat_map(|remedy| remedy.server.keys()) {
            self.check_server(name)?;
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), String> {
        for (index, server) in self.server.iter().enumerate() {
            let name = &server.name;
            self.check_role(&server.role)?;
            if name.is_empty() || name.len() > COMM || !name.is_ascii() {
                return Err(format!("server `{name}`: a name has 1 to {COMM} ASCII letters"));
            }
            let earlier = &self.server[..index];
            if earlier.iter().any(|other| other.name == *name) {
                return Err(format!("two servers are called `{name}`"));
            }
            if earlier.iter().any(|other| (&other.role, other.port) == (&server.role, server.port))
            {
                return Err(format!("two servers listen on port {}", server.port));
            }
        }
        Ok(())
    }

    fn check_traffic(&self) -> Result<(), String> {
        use crate::part::Play;
        if self.traffic.is_empty() {
            return Err("there is no traffic; `play.idle` is the least there can be".into());
        }
        for traffic in &self.traffic {
            self.check_role(&traffic.from)?;
            match &traffic.to {
                Some(server) => self.check_server(server)?,
                None if traffic.play.needs_server() => return Err("`to` is missing".into()),
                None => {}
            }
            if traffic.play.is_crafted() && self.ipv6 {
                return Err("crafted packets are IPv4".into());
            }
            if traffic.play.is_crafted() && self.topology.roles().first() != Some(&&*traffic.from) {
                return Err("crafted packets come from the topology's first role".into());
            }
            let connections = match &traffic.play {
                Play::ConnectBurst(burst) => burst.waves.saturating_mul(burst.per_wave),
                Play::HttpShort(http) => http.concurrency,
                Play::Handshakes(shakes) => u32::from(shakes.held) + u32::from(shakes.completed),
                Play::Idle(_) | Play::Bulk(_) | Play::SynFlood(_) => 1,
            };
            if connections == 0 || connections > CONNECTIONS {
                return Err(format!("{connections} connections: 1 to {CONNECTIONS} are possible"));
            }
        }
        Ok(())
    }

    fn check_expectations(&self) -> Result<(), String> {
        if self.healthy != self.expect.is_empty() {
            return Err("either `healthy` or something to `expect`".into());
        }
        if self.healthy && self.remedy.is_some() {
            return Err("what is healthy needs no remedy".into());
        }
        if !self.healthy && (self.remedy.is_none() || self.counters.is_empty()) {
            return Err("a `remedy` and `counters` that prove the cause are missing".into());
        }
        for expectation in &self.expect {
            let cause = &expectation.cause;
            self.check_role(&expectation.netns)?;
            if let Some(server) = &expectation.server {
                self.check_server(server)?;
            }
            let counted = !expectation.packets_from.is_empty();
            if counted == matches!(expectation.class, Class::Info) {
                return Err(format!("{cause}: class info has no packets, every other class does"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;

    const GOOD: &str = r#"
        about = "x"
        topology = "pair"
        counters = { "b:TcpExt.ListenOverflows" = { min = 1 } }
        server = [{ name = "server", role = "b", port = 9000, backlog = 8 }]
        [[traffic]]
        from = "a"
        to = "server"
        play.http-short = { connections = 10, concurrency = 2 }
        [[expect]]
        cause = "accept-queue-full"
        class = "fault"
        netns = "b"
        server = "server"
        packets-from = ["b:TcpExt.ListenOverflows"]
        [remedy.server.server]
        backlog = 64
    "#;

    #[test]
    fn good_is_accepted() {
        Scenario::parse("good", GOOD).unwrap();
    }

    #[test]
    fn wrong_ones_are_refused() {
        for (right, wrong, message) in [
            ("about", "abuot", "unknown field"),
            ("role = \"b\"", "role = \"z\"", "`z` is not a role"),
            ("b:TcpExt", "q:TcpExt", "`q` is not a role"),
            ("to = \"server\"", "to = \"sever\"", "there is no server `sever`"),
            ("to = \"server\"", "", "`to` is missing"),
            ("[remedy.server.server]", "[remedy.server.other]", "no server `other`"),
            ("backlog = 64", "backlogs = 64", "unknown field"),
            ("topology = \"pair\"", "topology = \"pair\"\nhealthy = true", "either `healthy`"),
            ("class = \"fault\"", "class = \"info\"", "class info has no packets"),
            ("\"server\", role", "\"a-server-with-a-name\", role", "1 to 15 ASCII"),
            ("connections = 10, concurrency = 2", "concurrency = 2", "missing field"),
            ("concurrency = 2", "concurrency = 0", "0 connections"),
            ("concurrency = 2", "concurrency = 2, pace = 1", "unknown field"),
            ("min = 1", "mim = 1", "did not match"),
        ] {
            assert!(GOOD.contains(right), "{right}");
            let error = Scenario::parse("wrong", &GOOD.replace(right, wrong)).unwrap_err();
            assert!(error.to_string().contains(message), "{wrong}: {error}");
        }
    }
}
