//! The eBPF of a filter answers as the filter does, whatever of a packet is there: run here by an
//! interpreter of the few instructions that the translation uses.

use crate::corpus;
use crate::machine::{Packet, run};

#[test]
fn ebpf_answers_as_classic_bpf() {
    let frames = corpus::frames();
    let mut accepted = 0;
    for expression in corpus::expressions() {
        let Ok(program) = whydrop_filter::compile(&expression) else { continue };
        let code = program.to_ebpf().expect(&expression);
        for frame in &frames {
            for there in [frame.len(), 14, 20, 37, 55] {
                let there = there.min(frame.len());
                let expected = program.accepts(&frame[..there], frame.len() as u32);
                let packet = Packet::new(frame, there, true);
                let answer =
                    run(&code, &packet).unwrap_or_else(|why| panic!("{expression}: {why}"));
                assert_eq!(answer, expected, "{expression}: {there} of {frame:02x?}");
                accepted += u32::from(expected);
            }
        }
    }
    assert!(accepted > 1000, "only {accepted} packets were accepted: the test shows little");
}

#[test]
fn without_an_ethernet_header_only_questions_of_it_are_answered_with_no() {
    let frame = corpus::frames().into_iter().next().expect("a frame");
    for (expression, accepted) in
        [("ether host 02:00:00:00:00:01", false), ("not ether broadcast", false), ("ip", true)]
    {
        let code = whydrop_filter::compile(expression).unwrap().to_ebpf().unwrap();
        assert_eq!(
            run(&code, &Packet::new(&frame, frame.len(), false)),
            Ok(accepted),
            "{expression}"
        );
    }
}
