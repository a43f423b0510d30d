//! Files that are accepted, and files that are refused.

use super::*;

const ID: &str = "0198f7c2-5a3b-7c1d-9e2f-0123456789ab";

fn refusal<T: std::fmt::Debug>(read: Result<T, InvalidFile>) -> String {
    read.unwrap_err().to_string()
}

#[test]
fn a_file_of_items_with_one_fault_is_refused_with_its_line() {
    let long = |n| "x".repeat(n);
    for (name, file, reason) in [
        (
            "nothing at all",
            String::new(),
            ", line 1: the header is \"\" and must be sku,name,quantity",
        ),
        (
            "quotes around all of it",
            "\"sku,name,quantity\nA,Bolt,1\"\n".into(),
            ", line 1: there are quotes around it: remove them",
        ),
        (
            "base64",
            "c2t1LG5hbWUscXVhbnRpdHkKQSxCb2x0LDEK\n".into(),
            ", line 1: it is in base64, as in a Kubernetes Secret: decode it with `base64 -d`",
        ),
        (
            "UTF-16 without a byte order mark",
            "sku,name,quantity\n"
                .chars()
                .flat_map(|c| [c, '\0'])
                .collect(),
            ", line 1: it is UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)",
        ),
        (
            "a page",
            "<!doctype html><p>404</p>\n".into(),
            ", line 1: it is a page of HTML or XML: fetch the file itself",
        ),
        (
            "quotes around another header",
            "\"SKU\",\"name\",\"quantity\"\n".into(),
            ", line 1: the header is \"SKU,name,quantity\" and must be sku,name,quantity",
        ),
        (
            "no header",
            "A,Bolt,1\n".into(),
            ", line 1: the header is \"A,Bolt,1\" and must be sku,name,quantity",
        ),
        (
            "another order of columns",
            "sku,quantity,name\nA,1,Bolt\n".into(),
            ", line 1: the header is \"sku,quantity,name\" and must be sku,name,quantity",
        ),
        (
            "a header in capitals",
            "SKU,name,quantity\nA,Bolt,1\n".into(),
            ", line 1: the header is \"SKU,name,quantity\" and must be sku,name,quantity",
        ),
        (
            "a header with spaces",
            "sku, name, quantity\nA,Bolt,1\n".into(),
            ", line 1: the header is \"sku, name, quantity\" and must be sku,name,quantity",
        ),
        (
            "a header alone",
            "sku,name,quantity\n".into(),
            " has no row after its header",
        ),
        (
            "an extra column in the header",
            "sku,name,quantity,note\nA,Bolt,1,\n".into(),
            ", line 1: the header is \"sku,name,quantity,note\" and must be sku,name,quantity",
        ),
        (
            "an extra column in a row",
            "sku,name,quantity\nA,Bolt,1\nB,Nut,M8,1\n".into(),
            ", line 3: 4 columns instead of 3; a value with a comma needs double quotes around it",
        ),
        (
            "a missing column",
            "sku,name,quantity\nA,Bolt\n".into(),
            ", line 2: 2 columns instead of 3; a value with a comma needs double quotes around it",
        ),
        (
            "no SKU",
            "sku,name,quantity\n,Bolt,1\n".into(),
            ", line 2: sku \"\" is not 1 to 64 visible ASCII characters",
        ),
        (
            "a SKU with a space before it",
            "sku,name,quantity\n A,Bolt,1\n".into(),
            ", line 2: sku \" A\" is not 1 to 64 visible ASCII characters",
        ),
        (
            "a SKU that is too long",
            format!("sku,name,quantity\n{},Bolt,1\n", long(65)),
            ", line 2: sku \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" \
             is not 1 to 64 visible ASCII characters",
        ),
        (
            "a SKU with an escape sequence",
            "sku,name,quantity\n\x1b[2J,Bolt,1\n".into(),
            ", line 2: sku \"\\u{1b}[2J\" is not 1 to 64 visible ASCII characters",
        ),
        (
            "no name",
            "sku,name,quantity\nA,,1\n".into(),
            ", line 2: name \"\" is not 1 to 200 characters without control characters",
        ),
        (
            "a quote that is never closed",
            "sku,name,quantity\nA,\"Bolt,1\nB,Nut,1\n".into(),
            ", line 2: 2 columns instead of 3; a value with a comma needs double quotes around it",
        ),
        (
            "a name over two lines",
            "sku,name,quantity\nA,\"Bolt\nM8\",1\n".into(),
            ", line 2: name \"Bolt\\nM8\" is not 1 to 200 characters without control characters",
        ),
        (
            "a name that is too long to show",
            format!("sku,name,quantity\nA,{},1\n", long(201)),
            ", line 2: name \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
             xxxxxxxx...\" is not 1 to 200 characters without control characters",
        ),
        (
            "no quantity",
            "sku,name,quantity\nA,Bolt,\n".into(),
            ", line 2: quantity \"\" is not a number from 0 to 1000000000",
        ),
        (
            "a negative quantity",
            "sku,name,quantity\nA,Bolt,-1\n".into(),
            ", line 2: quantity \"-1\" is not a number from 0 to 1000000000",
        ),
        (
            "a quantity with a sign",
            "sku,name,quantity\nA,Bolt,+1\n".into(),
            ", line 2: quantity \"+1\" is not a number from 0 to 1000000000",
        ),
        (
            "a fraction",
            "sku,name,quantity\nA,Bolt,1.5\n".into(),
            ", line 2: quantity \"1.5\" is not a number from 0 to 1000000000",
        ),
        (
            "a quantity over the maximum",
            "sku,name,quantity\nA,Bolt,1000000001\n".into(),
            ", line 2: quantity \"1000000001\" is not a number from 0 to 1000000000",
        ),
        (
            "a quantity that no integer holds",
            "sku,name,quantity\nA,Bolt,99999999999999999999\n".into(),
            ", line 2: quantity \"99999999999999999999\" is not a number from 0 to 1000000000",
        ),
        (
            "a SKU that comes twice",
            "sku,name,quantity\nA,Bolt,1\nB,Nut,1\nA,Bolt,2\n".into(),
            ", line 4: \"A\" is repeated; it is first on line 2",
        ),
        (
            "a fault after empty lines",
            "sku,name,quantity\n\n\nA,Bolt,x\n".into(),
            ", line 4: quantity \"x\" is not a number from 0 to 1000000000",
        ),
        (
            "a fault in a file with CRLF",
            "sku,name,quantity\r\nA,Bolt,1\r\nB,Nut,x\r\n".into(),
            ", line 3: quantity \"x\" is not a number from 0 to 1000000000",
        ),
        (
            "a missing column in a file with CRLF",
            "sku,name,quantity\r\nA,Bolt,1\r\n\r\nB,Nut\r\n".into(),
            ", line 4: 2 columns instead of 3; a value with a comma needs double quotes around it",
        ),
    ] {
        let refusal = refusal(items(Path::new("items.csv"), file.as_bytes()));
        assert_eq!(refusal, format!("items.csv{reason}"), "{name}");
    }
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_refused() {
    let latin1 = b"sku,name,quantity\nA,Bolt,1\nB,Schl\xfcssel,1\n";
    assert_eq!(
        refusal(items(Path::new("a\x1b.csv"), latin1)),
        "a\\u{1b}.csv, line 3: not UTF-8: save the file in that encoding"
    );
    let missing = refusal(read_items(Path::new("/nonexistent/items.csv")));
    assert!(
        missing.starts_with("cannot read /nonexistent/items.csv: "),
        "{missing}"
    );
    assert!(matches!(
        read_items(Path::new("/")),
        Err(InvalidFile::Unreadable { .. })
    ));
    let utf16: Vec<u8> = b"\xff\xfes\0k\0u\0,\0n\0a\0m\0e\0\n\0".to_vec();
    assert_eq!(
        refusal(items(Path::new("utf16.csv"), &utf16)),
        "utf16.csv, line 1: not UTF-8: save the file in that encoding"
    );
    // A FIFO would block for ever on open, and a device never ends.
    for path in ["/dev/zero", "/"] {
        assert_eq!(
            refusal(read_items(Path::new(path))),
            format!("cannot read {path}: not a regular file")
        );
    }
}

#[test]
fn a_file_of_reservations_with_one_fault_is_refused_with_its_line() {
    for (name, file, reason) in [
        (
            "the header of items",
            "sku,name,quantity\nA,Bolt,1\n".to_owned(),
            "line 1: the header is \"sku,name,quantity\" and must be sku,quantity,reservation_id",
        ),
        (
            "an identifier without its column",
            format!("sku,quantity\nA,1,{ID}\n"),
            "line 2: 3 columns instead of 2; a value with a comma needs double quotes around it",
        ),
        (
            "nothing to reserve",
            "sku,quantity\nA,0\n".to_owned(),
            "line 2: quantity \"0\" is not a number from 1 to 1000000",
        ),
        (
            "more than can be reserved at once",
            "sku,quantity\nA,1000001\n".to_owned(),
            "line 2: quantity \"1000001\" is not a number from 1 to 1000000",
        ),
        (
            "an identifier that is no UUID",
            "sku,quantity,reservation_id\nA,1,42\n".to_owned(),
            "line 2: reservation_id \"42\" is not a hyphenated UUID",
        ),
        (
            "a UUID without hyphens",
            "sku,quantity,reservation_id\nA,1,0198f7c25a3b7c1d9e2f0123456789ab\n".to_owned(),
            "line 2: reservation_id \"0198f7c25a3b7c1d9e2f0123456789ab\" is not a hyphenated UUID",
        ),
        (
            "one identifier for two reservations",
            format!(
                "sku,quantity,reservation_id\nA,1,{ID}\nB,1,{}\n",
                ID.to_uppercase()
            ),
            "line 3: \"0198f7c2-5a3b-7c1d-9e2f-0123456789ab\" is repeated; it is first on line 2",
        ),
    ] {
        let refusal = refusal(reservations(Path::new("r.csv"), file.as_bytes()));
        assert_eq!(refusal, format!("r.csv, {reason}"), "{name}");
    }
}

#[test]
fn reservations_without_an_identifier_get_one_each() {
    let file = format!(
        "sku,quantity,reservation_id\nA,1,\nA,2,{}\nA,3,\n",
        ID.to_uppercase()
    );
    let made = reservations(Path::new("r.csv"), file.as_bytes()).unwrap();
    let quantities: Vec<_> = made.iter().map(|row| row.quantity).collect();
    assert_eq!(quantities, [1, 2, 3]);
    assert_eq!(made[1].reservation_id, ID);
    assert_ne!(made[0].reservation_id, made[2].reservation_id);
    assert!(Uuid::try_parse(&made[0].reservation_id).is_ok());
}

#[test]
fn the_items_of_the_documentation_are_in_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/items.csv");
    let items = read_items(&path).unwrap();
    assert_eq!(items.len(), 30);
    assert_eq!(items[0].name, "Hex bolt M6 x 20, zinc plated (100 pcs)");
    assert!(items.iter().any(|item| item.quantity == 0));
}
