//! Which files are services, by their names and by the folders they lie in.

use super::*;

#[tokio::test]
async fn a_file_in_a_folder_below_is_a_service_of_several_labels() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    let path = watch.folder.path().to_owned();
    fs::create_dir_all(path.join("http/eu")).unwrap();
    watch.write("http/hello", "10.0.0.2 80\n");
    watch.write("http/eu/hello", "10.0.0.3 80\n");
    watch
        .until("both", |catalog| {
            ["http/hello", "http/eu/hello"].iter().all(|name| count(catalog, &fs_key(name)) == 1)
        })
        .await;
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:80"]);
    assert_eq!(watch.fs("http/eu/hello").unwrap(), ["10.0.0.3:80"]);
    watch.write("http/eu/hello", "10.0.0.3 80\n10.0.0.4 80\n");
    watch.until("a change in a folder below", |catalog| count(catalog, &fs_key("http/eu/hello")) == 2).await;
    fs::remove_dir_all(path.join("http/eu")).unwrap();
    watch.until("its end", |catalog| !catalog.services.contains_key(&fs_key("http/eu/hello"))).await;
    assert_eq!(watch.fs("http/hello").unwrap(), ["10.0.0.2:80"]);
}

#[tokio::test]
async fn folders_that_lead_in_a_circle_and_folders_too_deep_end() {
    let path = tempfile::tempdir().unwrap();
    let deep = path.path().join("1/2/3/4/5/6/7/8/9");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("hello"), "10.0.0.1 80\n").unwrap();
    fs::write(path.path().join("1/hello"), "10.0.0.1 80\n").unwrap();
    std::os::unix::fs::symlink("..", path.path().join("1/up")).unwrap();
    let (catalog, problems) = read_files(&Files::at(path.path().to_owned())).unwrap();
    let names: Vec<_> = catalog.services.keys().map(|key| key.name.to_string()).collect();
    assert!(names.contains(&"1/hello".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with("9/hello")), "{names:?}");
    assert!(names.len() <= 2, "{names:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].to_string().contains("/8/9: not read: at most 1000 folders, 8 deep"),
        "{}",
        problems[0]
    );
}

#[tokio::test]
async fn a_name_with_a_dot_is_a_service_if_its_file_reads_as_one() {
    let files = [
        ("helloworld.Greeter", "10.0.0.1 80\n"),
        ("Capital", "10.0.0.2 80\n"),
        ("README.org", "# Services\n\nOne file each.\n"),
        ("empty.Greeter", ""),
        (".hidden", "10.0.0.3 80\n"),
        ("hello~", "10.0.0.3 80\n"),
    ];
    let mut watch = watch(&files);
    assert_eq!(watch.problems(), [""; 0]);
    let names: Vec<_> =
        watch.watched.catalog.borrow().services.keys().map(|key| key.name.to_string()).collect();
    assert_eq!(names, ["Capital", "helloworld.Greeter"]);
    // It was a service, so its problems are now reported, and it stays.
    watch.write("helloworld.Greeter", "10.0.0.1\n");
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert!(problems[0].starts_with("helloworld.Greeter:1:1: expected `host port`"), "{problems:?}");
    assert_eq!(watch.fs("helloworld.Greeter").unwrap(), ["10.0.0.1:80"]);
}
