//! Images.

use super::v1;
use crate::api::Request;
use crate::api::types::{ImageInspect, ImageSummary, NEVER, OfContainer};
use crate::api::version::ApiVersion;
use crate::engine::filters::Filters;

/// The filters of a list of images, one of which stood by itself.
pub fn image_filters(request: &Request, filters: &mut Filters) {
    if request.version < v1(41)
        && let Some(pattern) = request.query("filter").filter(|pattern| !pattern.is_empty())
    {
        filters.add("reference", pattern);
    }
}
/// A list of images, each of which once had a name in any case, and its size twice.
pub fn images(version: ApiVersion, images: &mut [ImageSummary]) {
    for image in images {
        if version < v1(42) {
            image.shared_size = -1;
        }
        if version < v1(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags.push("<none>:<none>".to_owned());
            image.repo_digests.push("<none>@<none>".to_owned());
        }
        if version < v1(44) {
            image.virtual_size = Some(image.size);
        }
        if version < v1(51) {
            image.containers = -1;
        }
    }
}
/// An image, which once said in its configuration what only containers have, and what container it had been.
pub fn image(version: ApiVersion, image: &mut ImageInspect) {
    if version < v1(44) {
        image.virtual_size = Some(image.size);
        if image.created.is_empty() {
            image.created = NEVER.to_owned();
        }
    }
    image.container_config = match version < v1(45) {
        // Never null: docker-compose 1.29 looks for volumes in it.
        true => Some(image.container_config.take().unwrap_or_default()),
        false => None,
    };
    if version < v1(50) {
        image.config.of_container = Some(OfContainer::default());
    }
}

#[cfg(test)]
mod tests {
    use super::super::request;
    use super::*;
    use crate::api::version::NEWEST;
    use serde_json::json;

    #[test]
    fn the_filter_that_stood_by_itself() {
        for (version, filter) in [(v1(40), true), (v1(41), false)] {
            let mut filters = Filters::default();
            image_filters(&request(version, &[("filter", "sea*")]), &mut filters);
            assert_eq!(filters.get("reference") == ["sea*"], filter, "{version}");
        }
    }

    #[test]
    fn what_was_answered() {
        let mut one = [ImageSummary { size: 7, containers: 2, shared_size: 3, ..ImageSummary::default() }];
        let new = one[0].clone();
        images(v1(51), &mut one);
        assert_eq!(one[0], new);
        images(v1(44), &mut one);
        assert_eq!(one[0], ImageSummary { containers: -1, ..new });
        images(v1(42), &mut one);
        assert_eq!(one[0].shared_size, 3);
        images(v1(41), &mut one);
        assert_eq!(one[0].shared_size, -1);
        assert_eq!((one[0].virtual_size, one[0].repo_tags[0].as_str()), (Some(7), "<none>:<none>"));
        let answer = |version| {
            let mut one = ImageInspect { size: 7, ..ImageInspect::default() };
            image(version, &mut one);
            serde_json::to_value(one).unwrap()
        };
        for (version, pointer, value) in [
            (NEWEST, "/Config/Tty", None),
            (v1(49), "/Config/Tty", Some(json!(false))),
            (v1(49), "/Config/Cmd", Some(json!(null))),
            (v1(45), "/ContainerConfig", None),
            (v1(44), "/ContainerConfig/Volumes", Some(json!(null))),
            (v1(44), "/VirtualSize", None),
            (v1(43), "/VirtualSize", Some(json!(7))),
            (v1(43), "/Created", Some(json!(NEVER))),
        ] {
            assert_eq!(answer(version).pointer(pointer), value.as_ref(), "{version} {pointer}");
        }
    }
}
