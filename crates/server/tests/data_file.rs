//! The data file: what it promises about names, modes and damage, beside what every store does (store.rs).

use std::fs;
use std::path::Path;

use server::store::{OpenError, Store, StoreError};
use tempfile::TempDir;
use tokio::task::JoinSet;

#[path = "support/stock.rs"]
mod stock;

use stock::{item, level, reservation};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::test]
async fn the_last_handle_closes_the_file() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let file = dir.path().join("deep/er/inventory.redb");
    let store = Store::open(&file).await?;
    let clone = store.clone();
    drop(store);
    assert!(matches!(
        Store::open(&file).await,
        Err(OpenError::Locked { .. })
    ));
    drop(clone);
    Store::open(&file).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_trusted_is_refused_by_name_with_what_to_do() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let sound = dir.path().join("sound.redb");
    drop(Store::open(&sound).await?);
    let sound = fs::read(&sound)?;

    let text = write(dir.path(), "text.redb", b"sku,name,quantity\nbolt,Bolt,1\n")?;
    let short = write(dir.path(), "short.redb", &sound[..sound.len() / 2])?;
    let empty = write(dir.path(), "empty.redb", b"")?;
    let stub = write(dir.path(), "stub.redb", &sound[..100])?;
    let zeros = write(dir.path(), "zeros.redb", &vec![0; sound.len()])?;
    let newer = write(dir.path(), "newer.redb", &sound)?;
    set_schema(&newer, 2)?;
    let foreign = dir.path().join("foreign.redb");
    write_foreign(&foreign)?;
    let below_a_file = text.join("inventory.redb");
    let directory = dir.path().join("directory.redb");
    fs::create_dir(&directory)?;
    let locked = dir.path().join("locked.redb");
    let _other = Store::open(&locked).await?;

    let cases = [
        (
            "text in place of data",
            &text,
            "is damaged or not a data file",
        ),
        (
            "the first half of a file",
            &short,
            "is damaged or not a data file",
        ),
        ("nothing", &empty, "remove it to start with nothing"),
        ("part of a header", &stub, "is damaged or not a data file"),
        ("zeros", &zeros, "is damaged or not a data file"),
        (
            "a schema of a later version",
            &newer,
            "run the version that wrote it",
        ),
        (
            "a sound file of another program",
            &foreign,
            "belongs to another program",
        ),
        ("a directory that is a file", &below_a_file, "cannot create"),
        ("a file that is a directory", &directory, "check its owner"),
        (
            "a file that another server has open",
            &locked,
            "stop the other server",
        ),
    ];
    for (name, path, advice) in cases {
        let Err(refused) = Store::open(path).await else {
            return Err(format!("{name}: was opened").into());
        };
        let refused = refused.to_string();
        assert!(refused.contains(advice), "{name}: {refused}");
        let named = path.file_name().ok_or("no name")?.to_string_lossy();
        let named = if name == "a directory that is a file" {
            "text.redb".into()
        } else {
            named
        };
        assert!(refused.contains(&*named), "{name}: {refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_file_and_its_directory_are_its_owners_alone() -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new()?;
    let file = dir.path().join("made/for/it/inventory.redb");
    Store::check(&file)?;
    assert!(!dir.path().join("made").exists());
    let store = Store::open(&file).await?;
    Store::check(&file)?;
    let mode = |path: &Path| fs::metadata(path).map(|it| it.permissions().mode() & 0o777);
    assert_eq!(mode(&file)?, 0o600);
    for made in ["made", "made/for", "made/for/it"] {
        assert_eq!(mode(&dir.path().join(made))?, 0o700, "{made}");
    }
    let beside: Vec<_> = fs::read_dir(dir.path().join("made/for/it"))?.collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    drop(store);
    // What a start that was cut short left behind is no obstacle, and no data.
    fs::rename(&file, dir.path().join("made/for/it/inventory.redb.new"))?;
    drop(Store::open(&file).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_make_a_data_file_at_once_make_one_and_one_of_them_has_it()
-> Result<(), Failure> {
    for _ in 0..50 {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("inventory.redb");
        let mut starting = JoinSet::new();
        for _ in 0..2 {
            let file = file.clone();
            starting.spawn(async move { Store::open(file).await });
        }
        let started = starting.join_all().await;
        let open: Vec<_> = started.iter().flatten().collect();
        assert_eq!(open.len(), 1, "{started:?}");
        open[0].import(vec![item("bolt", 10)]).await?;
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_file_has_lost_its_name() -> Result<(), Failure> {
    let removed = |file: &Path| fs::remove_file(file);
    let moved = |file: &Path| fs::rename(file, file.with_extension("old"));
    let replaced = |file: &Path| {
        fs::copy(file, file.with_extension("copy"))?;
        fs::rename(file.with_extension("copy"), file)
    };
    type Loss = fn(&Path) -> std::io::Result<()>;
    let losses: [(&str, Loss); 3] = [
        ("removed", removed),
        ("moved", moved),
        ("replaced", replaced),
    ];
    for (name, lose) in losses {
        let dir = TempDir::new()?;
        let file = dir.path().join("inventory.redb");
        let store = Store::open(&file).await?;
        store.import(vec![item("bolt", 10)]).await?;
        lose(&file)?;
        let refused = store.reserve("orders", reservation(1, "bolt", 1)).await;
        assert_eq!(refused, Err(StoreError::Failed.into()), "{name}");
        store.failed().await;
        let refused = store.import(vec![item("nut", 10)]).await;
        assert_eq!(refused, Err(StoreError::Failed.into()), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_is_found_or_does_no_harm() -> Result<(), Failure> {
    let dir = TempDir::new()?;
    let file = dir.path().join("sound.redb");
    let store = Store::open(&file).await?;
    store
        .import((0..50).map(|n| item(&format!("part-{n}"), 10)).collect())
        .await?;
    store.reserve("orders", reservation(1, "part-7", 3)).await?;
    drop(store);
    let sound = fs::read(&file)?;

    let flipped = dir.path().join("flipped.redb");
    for at in (0..sound.len()).step_by(509) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&flipped, &bytes)?;
        match Store::open(&flipped).await {
            Ok(store) => {
                assert_eq!(
                    store.item("part-7").await?,
                    Some(level("part-7", 10, 3)),
                    "byte {at}"
                );
            }
            Err(
                OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Schema { .. },
            ) => {}
            Err(other) => return Err(format!("byte {at}: {other}").into()),
        }
    }
    Ok(())
}

fn write(dir: &Path, name: &str, content: &[u8]) -> Result<std::path::PathBuf, Failure> {
    let path = dir.join(name);
    fs::write(&path, content)?;
    Ok(path)
}

fn set_schema(path: &Path, schema: u64) -> Result<(), Failure> {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let transaction = redb::Database::open(path)?;
    let transaction = transaction.begin_write()?;
    transaction.open_table(meta)?.insert("schema", schema)?;
    Ok(transaction.commit()?)
}

fn write_foreign(path: &Path) -> Result<(), Failure> {
    let transaction = redb::Database::create(path)?.begin_write()?;
    transaction
        .open_table(redb::TableDefinition::<u64, u64>::new("blocks"))?
        .insert(1, 1)?;
    Ok(transaction.commit()?)
}
