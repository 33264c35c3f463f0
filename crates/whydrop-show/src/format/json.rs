//! The report as one JSON document (`whydrop.report/1`).

use std::io;

use whydrop_model::Report;

use super::Format;

/// See the module.
#[derive(Debug)]
pub(super) struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn help(&self) -> &'static str {
        "one JSON document, schema whydrop.report/1"
    }

    fn write(&self, report: &Report, _width: usize, out: &mut dyn io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, report)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Report;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_document_reads_back_as_the_same_report() {
        let mut report = fixture::report();
        let mut bytes = Vec::new();
        Json.write(&report, 80, &mut bytes).expect("written");
        let back: Report = serde_json::from_slice(&bytes).expect("a report");
        report.layers.clear();
        report.ledger.entries.iter_mut().for_each(|entry| entry.noise = false);
        assert_eq!(back, report);
    }

    #[test]
    fn the_document_has_the_fields_of_the_contract_and_no_others() {
        let value = serde_json::to_value(fixture::report()).expect("JSON");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |names: &str| {
            let mut names: Vec<_> = names.split_whitespace().map(String::from).collect();
            names.sort();
            names
        };
        assert_eq!(
            keys(&value),
            sorted("schema host window verdict findings ledger tracer not_checked")
        );
        let finding = &value["findings"][0];
        assert_eq!(
            keys(finding),
            sorted(
                "cause variant class layer severity confidence packets site summary evidence remedies"
            )
        );
        assert_eq!(keys(&finding["site"]), sorted("netns device socket process object"));
        assert_eq!(keys(&finding["site"]["netns"]), sorted("inode name"));
        assert_eq!(keys(&finding["evidence"][0]), sorted("kind name value"));
        assert_eq!(keys(&value["ledger"]), sorted("lost explained unexplained benign entries"));
        assert_eq!(
            keys(&value["ledger"]["entries"][0]),
            sorted("cause packets traced counted site")
        );
        assert_eq!(keys(&value["tracer"]), sorted("attach events sampled lost"));
        assert_eq!(value["findings"][0]["class"], "fault");
        assert_eq!(value["tracer"]["attach"], "tp_btf");
    }
}
