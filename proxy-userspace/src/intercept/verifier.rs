//! Extracts the one useful line from the log of the kernel's verifier.

/// Prefixes of lines that only report the cost of the verification. They come at the end of the log, after the error.
const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

/// Part of such a line for each function, since Linux 7.3 at the latest: `subprog 0 (NAME) main insns_self 294 …`.
const OF_FUNCTION: &str = " insns_self ";

/// Prefixes of lines that report a missing helper function. The first is from kernels that do not know its number yet
/// (`invalid func unknown#187`), the others from kernels that know it but not for programs of this type.
const NO_HELPER: [&str; 3] = ["invalid func ", "unknown func ", "program of this type cannot use helper "];

/// The verifier's error: the last line of its log that is not a statistic; empty if there is none.
pub(super) fn complaint(log: &str) -> &str {
    let lines = log.lines().rev().map(str::trim);
    let costs = |line: &str| {
        STATISTICS.iter().any(|start| line.starts_with(start))
            || (line.starts_with("subprog ") && line.contains(OF_FUNCTION))
    };
    lines.into_iter().find(|line| !line.is_empty() && !costs(line)).unwrap_or_default()
}

/// Whether the error is a missing helper function.
pub(super) fn lacks_helper(log: &str) -> bool {
    let complaint = complaint(log);
    NO_HELPER.iter().any(|start| complaint.contains(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_shown_and_not_what_the_verification_cost() {
        for (log, expected) in [
            // Linux 5.15, with what aya asks for.
            (
                "0: (bf) r6 = r1\n; if let decide::Fail::Closed = maps::fail() {\n812: (85) call unknown#187\n\
                 invalid func unknown#187\nverification time 5623 usec\nstack depth 176\n\
                 processed 1174 insns (limit 1000000) max_states_per_insn 4 total_states 70 peak_states 70 mark_read 22\n",
                "invalid func unknown#187",
            ),
            // With functions of its own, and with lines in between.
            (
                "R1 invalid mem access 'scalar'\n\nverification time 9 usec\nstack depth 0+16\n",
                "R1 invalid mem access 'scalar'",
            ),
            // Linux 7.3.
            (
                "invalid func unknown#32767\nverification time 9 usec\nstack depth max 80\n\
                 subprog 0 (weir_refuse4) main insns_self 294 insns_total 294 stack 80\nprocessed 294 insns (limit 1000000)\n",
                "invalid func unknown#32767",
            ),
            ("unreachable insn 7\nprocessed 0 insns (limit 1000000)\n\n  \n", "unreachable insn 7"),
            (
                "dereference of modified ctx ptr R1 off=24 disallowed",
                "dereference of modified ctx ptr R1 off=24 disallowed",
            ),
            ("verification time 1 usec\nstack depth 0\nprocessed 2 insns\n", ""),
            ("", ""),
        ] {
            assert_eq!(complaint(log), expected, "{log}");
        }
    }

    #[test]
    fn a_missing_helper_is_told_from_other_complaints() {
        for (log, lacks) in [
            ("invalid func unknown#187\nverification time 3 usec\n", true),
            ("unknown func bpf_set_retval#187\nprocessed 3 insns\n", true),
            ("program of this type cannot use helper bpf_set_retval#187\n", true),
            ("invalid func unknown#187\nsubprog 0 (f) main insns_self 2 insns_total 2 stack 80\n", true),
            ("cannot call GPL-restricted function from non-GPL compatible program\n", false),
            ("invalid func unknown#187\nR1 type=ctx expected=fp\n", false),
            ("", false),
        ] {
            assert_eq!(lacks_helper(log), lacks, "{log}");
        }
    }
}
