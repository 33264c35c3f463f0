//! What a process runs: its executable, or the script where the executable is an interpreter.
//!
//! `comm` alone says `python3` or `java` for half of the servers of the world. The command line is
//! read for its first argument that is no option; nothing of it but that name is kept.

use std::fs;
use std::path::Path;

use super::golang;

/// An interpreter and what its command line may hold before the script.
struct Interpreter {
    /// The executable's name starts with one of these, followed by a version at most.
    names: &'static [&'static str],
    /// Options that take the next argument.
    with_value: &'static [&'static str],
    /// Options after which the next argument names the program.
    names_next: &'static [&'static str],
    /// Options with which there is no script: the program is in the command line itself.
    inline: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        with_value: &["-W", "-X", "-Q", "--check-hash-based-pycs"],
        names_next: &["-m"],
        inline: &["-c"],
    },
    Interpreter {
        names: &["perl"],
        with_value: &["-I", "-M", "-m"],
        names_next: &[],
        inline: &["-e", "-E"],
    },
    Interpreter {
        names: &["ruby"],
        with_value: &["-I", "-r", "-C", "-E"],
        names_next: &[],
        inline: &["-e"],
    },
    Interpreter {
        names: &["node", "nodejs"],
        with_value: &["-r", "--require", "--import", "--loader", "-C", "--conditions"],
        names_next: &[],
        inline: &["-e", "--eval", "-p", "--print"],
    },
    Interpreter {
        names: &["java"],
        with_value: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--upgrade-module-path",
            "--add-modules",
            "--add-exports",
            "--add-opens",
            "--add-reads",
            "--limit-modules",
        ],
        names_next: &["-jar", "-m", "--module"],
        inline: &[],
    },
    Interpreter {
        names: &["php", "php-cgi"],
        with_value: &["-c", "-d", "-S", "-t", "-z"],
        names_next: &["-f"],
        inline: &["-r", "-B", "-R"],
    },
    Interpreter {
        names: &["bash", "sh", "dash", "ash", "zsh", "ksh"],
        with_value: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        names_next: &[],
        inline: &["-c"],
    },
];

/// The program of the process whose folder in `/proc` this is, and what runs it if that is an interpreter
/// or Go; `None` if it may not be read (or for a kernel thread).
pub(super) fn of(process: &Path) -> Option<(String, Option<&'static str>)> {
    let link = fs::read_link(process.join("exe")).ok()?;
    let link = link.to_string_lossy();
    // The kernel's mark for a file that was replaced since the start, as after an upgrade.
    let executable = base_name(link.strip_suffix(" (deleted)").unwrap_or(&link));
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    let runtime = interpreter(executable).and_then(|one| one.names.first().copied());
    let runtime = runtime.or_else(|| golang::made(&process.join("exe")).then_some("go"));
    Some((name(executable, &String::from_utf8_lossy(&arguments)), runtime))
}

/// `arguments` as in `/proc/PID/cmdline`: each ended by a zero byte.
pub(crate) fn name(executable: &str, arguments: &str) -> String {
    let mut arguments = arguments.split_terminator('\0');
    let title = arguments.next().unwrap_or_default();
    let arguments: Vec<&str> = arguments.filter(|argument| !argument.is_empty()).collect();
    interpreter(executable)
        .and_then(|interpreter| {
            if arguments.is_empty() { renamed(title) } else { script(interpreter, &arguments) }
        })
        .unwrap_or(executable)
        .to_owned()
}

/// The first word of a title that a server wrote over its command line, such as
/// `gunicorn: master [app]`.
fn renamed(title: &str) -> Option<&str> {
    let (word, _) = title.split_once(' ')?;
    let name = base_name(word.trim_end_matches(':'));
    (!name.is_empty()).then_some(name)
}

fn interpreter(executable: &str) -> Option<&'static Interpreter> {
    let is_version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.iter().find(|interpreter| {
        interpreter.names.iter().any(|name| executable.strip_prefix(name).is_some_and(is_version))
    })
}

fn script<'a>(interpreter: &Interpreter, arguments: &[&'a str]) -> Option<&'a str> {
    let mut arguments = arguments.iter().copied();
    while let Some(argument) = arguments.next() {
        if interpreter.inline.contains(&argument) {
            return None;
        }
        let named = if interpreter.names_next.contains(&argument) || argument == "--" {
            arguments.next()?
        } else if interpreter.with_value.contains(&argument) {
            arguments.next()?;
            continue;
        } else if argument.starts_with(['-', '+']) && argument.len() > 1 {
            continue;
        } else {
            argument
        };
        let name = base_name(named);
        return (!name.is_empty()).then_some(name);
    }
    None
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(executable: &str, command_line: &str) -> String {
        name(executable, &(command_line.replace(' ', "\0") + "\0"))
    }

    #[test]
    fn an_interpreter_gives_way_to_its_script() {
        assert_eq!(of("python3.11", "python3 /usr/bin/gunicorn -w 4 app"), "gunicorn");
        assert_eq!(of("python3.11", "python3 -u -W ignore ./server.py"), "server.py");
        assert_eq!(of("python3", "python3 -m http.server 80"), "http.server");
        assert_eq!(of("perl", "perl -I lib -w bin/starman"), "starman");
        assert_eq!(of("ruby3.1", "ruby -I lib bin/thin start"), "thin");
        assert_eq!(of("node", "node --require ./a.js --max-old-space-size=99 app.js"), "app.js");
        assert_eq!(of("java", "java -Xmx1g -cp a.jar:b.jar org.x.Main go"), "org.x.Main");
        assert_eq!(of("java", "java -Dx=y -jar /opt/kafka/kafka.jar"), "kafka.jar");
        assert_eq!(of("php8.2", "php -d x=y -f /srv/worker.php"), "worker.php");
        assert_eq!(of("dash", "/bin/sh -e -o pipefail /srv/run.sh"), "run.sh");
        assert_eq!(of("bash", "bash -- run"), "run");
    }

    #[test]
    fn without_a_script_the_executable_is_named() {
        assert_eq!(of("nginx", "nginx: master process /usr/sbin/nginx"), "nginx");
        assert_eq!(of("python3", "python3 -c import"), "python3");
        assert_eq!(of("bash", "-bash"), "bash");
        assert_eq!(of("java", "java -cp"), "java");
        assert_eq!(of("shairport", "shairport x"), "shairport", "not sh");
        assert_eq!(of("php-fpm8.2", "php-fpm: pool www"), "php-fpm8.2", "its own server");
        assert_eq!(name("node", ""), "node");
        assert_eq!(name("ruby3.1", "puma 6.0 (tcp://0.0.0.0:80) [app]\0"), "puma");
        assert_eq!(name("python3", "gunicorn: master [app]\0\0\0"), "gunicorn");
        assert_eq!(name("python3", "python3\0"), "python3");
        assert_eq!(name("node", "node\0\0"), "node");
    }
}
