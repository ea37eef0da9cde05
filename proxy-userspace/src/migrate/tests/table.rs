//! The table of keys in docs/from-linkerd.md is made of the reasons that `weir import` gives.

use crate::migrate::reasons::{self, Reasons};

const SECTIONS: [(&str, Reasons); 9] = [
    ("", reasons::ROOT),
    ("admin.", reasons::ADMIN),
    ("routers[].", reasons::ROUTER),
    ("routers[].servers[].", reasons::SERVER),
    ("routers[].identifier.", reasons::IDENTIFIER),
    ("routers[].bindingCache.", reasons::BINDING_CACHE),
    ("routers[].client.", reasons::CLIENT),
    ("routers[].service.", reasons::SERVICE),
    ("namers[].", reasons::NAMER),
];

#[test]
fn the_table_of_keys_that_are_left_out_is_what_an_import_says() {
    let mut expected = String::from("| key of linkerd | in weir |\n|---|---|\n");
    for (section, reasons) in SECTIONS {
        for (key, why) in reasons {
            expected += &format!("| `{section}{key}` | {why} |\n");
        }
    }
    let docs = include_str!("../../../../docs/from-linkerd.md");
    let (begin, end) = ("<!-- keys that are left out: begin -->\n", "<!-- keys that are left out: end -->");
    let table = docs.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    assert_eq!(
        table,
        Some(expected.as_str()),
        "docs/from-linkerd.md, between the two comments, is to be:\n{expected}"
    );
}
