//! What well-known servers ask for when they call `listen()`, and where they are told.
//!
//! Their documented defaults; a site may have set others, so they only ever tip a balance.

use whydrop_model::Process;

struct Program {
    /// Executable or `comm`, by its start.
    name: &'static str,
    /// Default backlog.
    backlog: u64,
    /// Where it is set.
    setting: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "nginx", backlog: 511, setting: "`backlog=` of nginx's `listen` directive" },
    Program { name: "redis-server", backlog: 511, setting: "`tcp-backlog` in redis.conf" },
    Program { name: "valkey-server", backlog: 511, setting: "`tcp-backlog` in valkey.conf" },
    Program {
        name: "node",
        backlog: 511,
        setting: "the backlog argument of Node's server.listen()",
    },
    Program { name: "apache2", backlog: 511, setting: "`ListenBackLog` in Apache's configuration" },
    Program { name: "httpd", backlog: 511, setting: "`ListenBackLog` in Apache's configuration" },
    Program { name: "php-fpm", backlog: 511, setting: "`listen.backlog` of the PHP-FPM pool" },
    Program { name: "gunicorn", backlog: 2048, setting: "gunicorn's `--backlog`" },
    Program { name: "uvicorn", backlog: 2048, setting: "uvicorn's `--backlog`" },
    Program {
        name: "java",
        backlog: 50,
        setting: "the backlog of the Java ServerSocket or connector",
    },
];

fn known(process: &Process) -> Option<&'static Program> {
    let is = |name: &str| {
        let starts = |full: &str| full.starts_with(name);
        process.program.as_deref().is_some_and(starts) || starts(&process.comm)
    };
    PROGRAMS.iter().find(|program| is(program.name))
}

/// The backlog this program asks for unless told otherwise.
pub(crate) fn usual_backlog(process: &Process) -> Option<u64> {
    known(process).map(|program| program.backlog)
}

/// Where this program is told its backlog.
pub(crate) fn backlog_setting(process: &Process) -> Option<&'static str> {
    known(process).map(|program| program.setting)
}
