//! What the shape of a scenario file cannot rule out: names that refer to nothing, and parts that
//! do not go together.

use whydrop_model::Class;

use super::Scenario;
use crate::counters::{CounterName, Term};

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
        let reads_tun = self.tun_program.iter().any(|program| program.name == name);
        let known = reads_tun || self.listener(name).is_some();
        known.then_some(()).ok_or_else(|| format!("there is no server `{name}`"))
    }

    fn check_named_traffic(&self, name: &str) -> Result<(), String> {
        let known = self.traffic.iter().any(|traffic| traffic.name.as_deref() == Some(name));
        if known { Ok(()) } else { Err(format!("no traffic is called `{name}`")) }
    }

    fn check_names(&self) -> Result<(), String> {
        let remedy = || self.remedy.iter();
        let set = self.sysctl.keys().chain(self.sysctl_after_listen.keys());
        let set = set.chain(&self.unobserved);
        for role in set.chain(remedy().flat_map(|remedy| remedy.sysctl.keys())) {
            self.check_role(role)?;
        }
        for program in &self.tun_program {
            self.check_role(&program.role)?;
        }
        let lines = self.setup.iter().chain(&self.during);
        let remedied = remedy().flat_map(|remedy| remedy.setup.iter().chain(&remedy.during));
        let again = self.fix.iter().flat_map(|fix| &fix.again);
        for lines in lines.chain(remedied).chain(again) {
            self.check_role(&lines.role)?;
        }
        if self.setup.iter().chain(remedy().flat_map(|it| &it.setup)).any(|it| it.act > 0) {
            return Err("`setup` comes before every act".into());
        }
        let remedied = remedy().flat_map(|remedy| remedy.counters.keys());
        let remedied = remedied.chain(self.fix.iter().flat_map(|fix| fix.counters.keys()));
        for CounterName { role, .. } in self.watched().iter().chain(remedied) {
            self.check_role(role)?;
        }
        for name in remedy().flat_map(|remedy| remedy.server.keys()) {
            self.check_server(name)?;
        }
        for name in remedy().flat_map(|remedy| remedy.traffic.keys()) {
            self.check_named_traffic(name)?;
        }
        Ok(())
    }

    fn check_servers(&self) -> Result<(), String> {
        let servers: Vec<_> = self.listeners().collect();
        for (index, server) in servers.iter().enumerate() {
            let name = server.name;
            self.check_role(server.role)?;
            let has_port = server.has_port();
            if has_port && (server.address(self).is_none() || server.reached_at(self).is_none()) {
                return Err(format!("server `{name}`: role `{}` has no address", server.role));
            }
            if name.is_empty() || name.len() > COMM || !name.is_ascii() {
                return Err(format!("server `{name}`: a name has 1 to {COMM} ASCII letters"));
            }
            let earlier = &servers[..index];
            if earlier.iter().any(|other| other.name == name) {
                return Err(format!("two servers are called `{name}`"));
            }
            let place = |it: &super::Listener<'_>| (it.protocol, it.port, it.address(self));
            if has_port
                && earlier.iter().any(|it| it.role == server.role && place(it) == place(server))
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
            if let Some(server) = &traffic.to {
                self.check_server(server)?;
            }
            match (&traffic.to, &traffic.at) {
                (Some(_), Some(_)) => return Err("`to` and `at` exclude each other".into()),
                (None, None) if traffic.play.needs_target() => {
                    return Err("`to` or `at` is missing".into());
                }
                (None, Some(_)) if self.target(traffic).is_none() => {
                    return Err("`at` names no role with an address".into());
                }
                _ => {}
            }
            if traffic.play.is_crafted() && self.topology.roles().first() != Some(&&*traffic.from) {
                return Err("crafted packets come from the topology's first role".into());
            }
            let sockets = match &traffic.play {
                Play::ConnectBurst(burst) => burst.waves.saturating_mul(burst.per_wave),
                Play::HttpShort(http) => http.concurrency,
                Play::HttpKeepAlive(http) => http.connections,
                Play::Handshakes(shakes) => u32::from(shakes.held) + u32::from(shakes.completed),
                Play::Conversation(plan) => plan.connections.into(),
                Play::UdpSend(send) => u32::from(send.sources.min(send.destinations)),
                _ => 1,
            };
            if sockets == 0 || sockets > CONNECTIONS {
                return Err(format!("{sockets} connections: 1 to {CONNECTIONS} are possible"));
            }
        }
        Ok(())
    }

    fn check_expectations(&self) -> Result<(), String> {
        if self.healthy != self.expect.is_empty() {
            return Err("either `healthy` or something to `expect`".into());
        }
        if self.fix.is_some() && self.no_fix.is_some() {
            return Err("`fix` and `no-fix` exclude each other".into());
        }
        if self.no_fix.iter().any(|it| it.answer.is_empty() || it.why.trim().is_empty()) {
            return Err("`no-fix` has an `answer` and says `why`".into());
        }
        if self.healthy && self.remedy.is_some() {
            return Err("what is healthy needs no remedy".into());
        }
        if !self.healthy && self.counters.is_empty() {
            return Err("`counters` that prove the cause are missing".into());
        }
        let noise = self.expect.iter().all(|it| it.class == Class::Benign);
        if !noise && self.remedy.is_none() {
            return Err("a `remedy` is missing".into());
        }
        for expectation in &self.expect {
            let cause = &expectation.cause;
            self.check_role(&expectation.netns)?;
            if let Some(server) = &expectation.server {
                self.check_server(server)?;
            }
            let counted = !expectation.packets_from.is_empty();
            if counted == (expectation.class == Class::Info || expectation.follows) {
                return Err(format!(
                    "{cause}: what is of class info or follows has no packets, all else does"
                ));
            }
            for term in &expectation.packets_from {
                if let Term::Sent(name) = term {
                    self.check_named_traffic(name)?;
                }
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
            ("to = \"server\"", "", "`to` or `at` is missing"),
            ("[remedy.server.server]", "[remedy.server.other]", "no server `other`"),
            ("backlog = 64", "backlogs = 64", "unknown field"),
            ("topology = \"pair\"", "topology = \"pair\"\nhealthy = true", "either `healthy`"),
            ("class = \"fault\"", "class = \"info\"", "class info or follows has no packets"),
            ("\"server\", role", "\"a-server-with-a-name\", role", "1 to 15 ASCII"),
            ("connections = 10, concurrency = 2", "concurrency = 2", "missing field"),
            ("concurrency = 2", "concurrency = 0", "0 connections"),
            ("concurrency = 2", "concurrency = 2, pace = 1", "unknown field"),
            ("min = 1", "mim = 1", "did not match"),
            ("to = \"server\"", "at = \"z:9000\"", "`at` names no role"),
            ("from = \"a\"", "from = \"a\"\nat = \"b:1\"", "exclude each other"),
            ("b:TcpExt.ListenOverflows\"]", "sent:flood\"]", "no traffic is called `flood`"),
            ("[[traffic]]", "[[setup]]\nrole = \"b\"\nrun = [\"sh x\"]\n[[traffic]]", "none of"),
            ("about = \"x\"", "about = \"x\"\nlike = \"no\"", "is no scenario"),
        ] {
            assert!(GOOD.contains(right), "{right}");
            let error = Scenario::parse("wrong", &GOOD.replace(right, wrong)).unwrap_err();
            assert!(error.to_string().contains(message), "{wrong}: {error}");
        }
    }
}
