//! Files and folders that are written, replaced, moved and removed.

use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn a_file_written_again_with_the_same_content_is_no_new_catalog() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    watch.watched.catalog.mark_unchanged();
    watch.write("hello", "# the same\n10.0.0.1 80\n");
    watch.write("marker", "10.0.0.3 80\n");
    watch.until("the marker", |catalog| count(catalog, &fs_key("marker")) == 1).await;
    let before = watch.service(&fs_key("hello")).unwrap();
    watch.write("hello", "10.0.0.1 80 # the same again\n");
    watch.write("marker", "10.0.0.3 80\n10.0.0.4 80\n");
    watch.until("the marker again", |catalog| count(catalog, &fs_key("marker")) == 2).await;
    assert!(Arc::ptr_eq(&before, &watch.service(&fs_key("hello")).unwrap()));
}

#[tokio::test]
async fn a_removed_file_removes_its_services() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n"), ("world.yaml", SERVICE), ("stays", "10.0.0.2 80\n")]);
    fs::remove_file(watch.path("hello")).unwrap();
    fs::remove_file(watch.path("world.yaml")).unwrap();
    watch.until("only one", |catalog| catalog.services.keys().eq([&fs_key("stays")])).await;
}

#[tokio::test]
async fn a_file_being_written_never_shows_half_a_service() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n10.0.0.2 80\n")]);
    let mut seen = watch.watched.catalog.clone();
    let observer = tokio::spawn(async move {
        let mut fewest = usize::MAX;
        loop {
            fewest = fewest.min(count(&seen.borrow_and_update(), &fs_key("hello")));
            if fewest < 2 || seen.changed().await.is_err() || count(&seen.borrow(), &fs_key("hello")) == 4 {
                return fewest;
            }
        }
    });
    let mut file = fs::File::create(watch.path("hello")).unwrap();
    for line in 1..=4 {
        file.write_all(format!("10.0.0.{line} 80\n").as_bytes()).unwrap();
        // Longer than the debounce; all of them together take longer than two regular checks.
        sleep(Duration::from_millis(700)).await;
    }
    drop(file);
    watch.until("all four", |catalog| count(catalog, &fs_key("hello")) == 4).await;
    assert_eq!(observer.await.unwrap(), 2);
}

#[tokio::test]
async fn a_file_put_in_the_others_place_is_taken_at_once() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    watch.write(".hello.new", "10.0.0.1 80\n10.0.0.2 80\n");
    fs::rename(watch.path(".hello.new"), watch.path("hello")).unwrap();
    watch.until("two", |catalog| count(catalog, &fs_key("hello")) == 2).await;
}

#[tokio::test]
async fn a_config_map_changes_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let version = |number: u8| {
        let path = folder.path().join(format!("..version{number}"));
        fs::create_dir(&path).unwrap();
        for name in ["hello", "world"] {
            fs::write(path.join(name), format!("10.0.0.{number} 80\n")).unwrap();
        }
        symlink(format!("..version{number}"), folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version(1);
    for name in ["hello", "world"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let shutdown = CancellationToken::new();
    let (mut watched, run) =
        run::start(Files::at(folder.path().to_owned()), no_names, shutdown.clone()).unwrap();
    tokio::spawn(run);
    assert_eq!(watched.catalog.borrow_and_update().services.len(), 2);
    sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    version(2);
    timeout(DEADLINE, watched.catalog.changed()).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_millis(600), "told by inotify: {:?}", started.elapsed());
    let catalog = watched.catalog.borrow_and_update().clone();
    assert_eq!(catalog.services.len(), 2);
    for service in catalog.services.values() {
        assert_eq!(endpoints(service), ["10.0.0.2:80"]);
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_change_behind_a_link_is_found_by_looking() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "10.0.0.1 80\n").unwrap();
    let mut watch = watch(&[]);
    symlink(&target, watch.path("hello")).unwrap();
    watch.until("the link", |catalog| count(catalog, &fs_key("hello")) == 1).await;
    fs::write(&target, "10.0.0.1 80\n10.0.0.2 80\n").unwrap();
    watch.until("the change behind it", |catalog| count(catalog, &fs_key("hello")) == 2).await;
}

#[tokio::test]
async fn a_folder_that_goes_keeps_its_services_and_one_that_comes_back_is_followed() {
    let mut watch = watch(&[]);
    let outer = watch.folder.path().to_owned();
    let inner = outer.join("services");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("hello"), "10.0.0.1 80\n").unwrap();
    let (watched, run) = run::start(Files::at(inner.clone()), no_names, watch.shutdown.clone()).unwrap();
    watch.watched = watched;
    tokio::spawn(run);
    fs::rename(&inner, outer.join("gone")).unwrap();
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert!(problems[0].starts_with("services: cannot be listed: No such file"), "{problems:?}");
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:80"]);

    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("hello"), "10.0.0.2 80\n").unwrap();
    watch
        .until("the new folder's", |catalog| {
            catalog
                .services
                .get(&fs_key("hello"))
                .is_some_and(|service| endpoints(service) == ["10.0.0.2:80"])
        })
        .await;
    watch.problems_until(<[_]>::is_empty).await;
    // Two checks later the new folder is watched too.
    sleep(Duration::from_millis(2100)).await;
    let started = Instant::now();
    fs::write(inner.join("hello"), "10.0.0.2 80\n10.0.0.3 80\n").unwrap();
    watch.until("a line more", |catalog| count(catalog, &fs_key("hello")) == 2).await;
    assert!(started.elapsed() < Duration::from_secs(1), "told by inotify: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_file_that_cannot_be_looked_at_keeps_its_services_until_it_is_gone() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    // A link to itself: it exists, and the kernel returns ELOOP.
    symlink(watch.path("hello"), watch.path(".loop")).unwrap();
    fs::rename(watch.path(".loop"), watch.path("hello")).unwrap();
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert!(problems[0].starts_with("hello: cannot be looked at: "), "{problems:?}");
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:80"]);
    fs::remove_file(watch.path("hello")).unwrap();
    watch.until("nothing", |catalog| catalog.services.is_empty()).await;
    watch.problems_until(<[_]>::is_empty).await;
}
