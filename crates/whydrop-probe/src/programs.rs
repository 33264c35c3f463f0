//! Names of BPF programs that others know by their ids only. Nothing here loads or changes one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aya::programs::{ProgramError, loaded_programs};

use crate::Error;

/// The names of these programs, by id, cut off at 15 bytes as the kernel keeps them; a program that
/// is gone, or has no name, is left out.
///
/// Needs `CAP_SYS_ADMIN`; asks the kernel for nothing if there is nothing to ask.
pub fn program_names(ids: &BTreeSet<u32>) -> Result<BTreeMap<u32, String>, Error> {
    let mut names = BTreeMap::new();
    if ids.is_empty() {
        return Ok(names);
    }
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // It was unloaded while the list was read.
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                let what = "the list of BPF programs".to_owned();
                return Err(Error::Read { what, source: io::Error::other(error) });
            }
        };
        let name = program.name_as_str().filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|_| ids.contains(&program.id())) {
            names.insert(program.id(), name.to_owned());
        }
    }
    Ok(names)
}

fn is_gone(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call)
        if call.io_error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::program_names;

    #[test]
    fn no_question_no_answer() {
        assert!(program_names(&std::collections::BTreeSet::new()).expect("nothing").is_empty());
    }
}
