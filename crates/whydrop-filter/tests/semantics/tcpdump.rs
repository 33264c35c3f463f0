//! The same expressions, compiled by tcpdump: what one accepts, the other does.

use std::process::Command;

use whydrop_filter::{Instruction, Program, compile};

use crate::corpus;

/// True, having said so, where there is no tcpdump.
fn missing() -> bool {
    let missing = Command::new("tcpdump").arg("--version").output().is_err();
    if missing {
        #[expect(clippy::print_stdout, reason = "a test that skips itself says so")]
        {
            println!("skipped: no tcpdump here");
        }
    }
    missing
}

/// tcpdump's program for an expression; what it says if it has none.
fn theirs(expression: &str) -> Result<Program, String> {
    let output = Command::new("tcpdump")
        .args(["-y", "EN10MB", "-ddd", "--", expression])
        .output()
        .expect("tcpdump runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let instruction = |line: &str| {
        let mut numbers = line.split(' ').map(|number| number.parse::<u32>().expect("a number"));
        let mut next = || numbers.next().expect("four numbers");
        let (code, jt, jf) = (next() as u16, next() as u8, next() as u8);
        Instruction { code, jt, jf, k: next() }
    };
    Ok(Program::new(text.lines().skip(1).map(instruction).collect()))
}

#[test]
fn filters_accept_what_tcpdumps_accept() {
    if missing() {
        return;
    }
    let frames = corpus::frames();
    let (mut compared, mut accepted, mut cut, mut problems) = (0, 0, 0, Vec::new());
    for expression in corpus::expressions() {
        let (ours, theirs) = match (compile(&expression), theirs(&expression)) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(_), Err(_)) => continue,
            // That nothing can match is found out by one sooner than by the other.
            (Ok(one), Err(why)) if why.contains("rejects all packets") => {
                if frames.iter().any(|frame| one.accepts(frame, frame.len() as u32)) {
                    problems.push(format!("{expression}: something is accepted here"));
                }
                continue;
            }
            (Err(why), Ok(one)) if why.to_string().contains("no packet can match") => {
                if frames.iter().any(|frame| one.accepts(frame, frame.len() as u32)) {
                    problems.push(format!("{expression}: something is accepted there"));
                }
                continue;
            }
            (Err(_), Ok(_)) if corpus::REFUSED.contains(&expression.as_str()) => continue,
            (Err(ours), Ok(_)) => {
                problems.push(format!("{expression}: refused here: {ours}"));
                continue;
            }
            // libpcap's optimiser takes some numbers of a packet for zero; a division by a zero that
            // is written down is refused here as well.
            (Ok(_), Err(why)) if why.contains("by zero") => continue,
            (Ok(_), Err(theirs)) => {
                problems.push(format!("{expression}: refused there: {theirs}"));
                continue;
            }
        };
        compared += 1;
        for frame in &frames {
            let length = frame.len() as u32;
            let answer = theirs.accepts(frame, length);
            accepted += u32::from(answer);
            if ours.accepts(frame, length) != answer {
                problems.push(format!("{expression}: {answer} there for {frame:02x?}"));
            }
            // Of which less was captured than there was.
            for there in (14..frame.len()).step_by(3) {
                cut += u32::from(
                    ours.accepts(&frame[..there], length)
                        != theirs.accepts(&frame[..there], length),
                );
            }
        }
    }
    println!(
        "{compared} expressions, {} frames, {accepted} accepted, {cut} cut differ",
        frames.len()
    );
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems[..problems.len().min(30)].join("\n")
    );
    assert!(compared > 500, "only {compared} expressions were compared");
}

/// The frames as a pcap file.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1_u32] {
        file.extend(number.to_le_bytes());
    }
    for (second, frame) in frames.iter().enumerate() {
        let length = frame.len() as u32;
        for number in [second as u32, 0, length, length] {
            file.extend(number.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// What tcpdump picks out of a file is what the filter accepts.
#[test]
fn filters_pick_what_tcpdump_picks_from_a_file() {
    if missing() {
        return;
    }
    let frames = corpus::frames();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames.pcap");
    std::fs::write(&path, pcap(&frames)).expect("written");
    let mut picked = 0;
    for expression in corpus::expressions().into_iter().step_by(4) {
        let Ok(filter) = compile(&expression) else { continue };
        let output = Command::new("tcpdump")
            .args(["-n", "-w", "-", "-r"])
            .args([path.as_os_str(), "--".as_ref(), expression.as_ref()])
            .output()
            .expect("tcpdump runs");
        if !output.status.success() {
            continue;
        }
        let accepted = frames.iter().filter(|frame| filter.accepts(frame, frame.len() as u32));
        let expected: usize = accepted.clone().map(|frame| 16 + frame.len()).sum();
        // The file header, then a header of 16 bytes and the frame for each.
        assert_eq!(output.stdout.len(), 24 + expected, "{expression}");
        picked += accepted.count();
    }
    assert!(picked > 1000, "only {picked} frames were picked: the test shows little");
}
