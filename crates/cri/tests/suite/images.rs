//! The image service over an imported image.

use berth_cri_api::v1::*;

use crate::image;
use crate::server::Server;

fn spec(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: name.to_owned(),
        ..ImageSpec::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_measured_and_removed() {
    let mut server = Server::start().await;
    let listed = server
        .images
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].repo_tags, [image::NAME]);
    assert!(listed[0].size > 0 && listed[0].uid.as_ref().is_some_and(|uid| uid.value == 0));
    // By the beginning of its id, as a person types it.
    let id = listed[0].id.trim_start_matches("sha256:");
    let request = ImageStatusRequest {
        image: spec(&id[..12]),
        verbose: false,
    };
    let found = server
        .images
        .image_status(request)
        .await
        .unwrap()
        .into_inner()
        .image;
    assert_eq!(found.map(|image| image.id), Some(listed[0].id.clone()));
    let info = server
        .images
        .image_fs_info(ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        info.image_filesystems[0]
            .used_bytes
            .as_ref()
            .is_some_and(|used| used.value > 0)
    );
    for _ in 0..2 {
        let request = RemoveImageRequest {
            image: spec(image::NAME),
        };
        server.images.remove_image(request).await.unwrap();
    }
    let listed = server
        .images
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert!(listed.is_empty());
    server.finish().await;
}
