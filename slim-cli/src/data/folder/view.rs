//! Views of an image that networks are given: torchvision's transforms for ImageNet.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};

/// How a square is cut out of an image.
#[derive(Debug, Clone)]
pub(super) enum View {
    /// The centre of the image, as `Resize(256)` and `CenterCrop(224)` cut it.
    Centre,
    /// A random crop, as `RandomResizedCrop(224)` and `RandomHorizontalFlip` draw it.
    Random(Rng),
}

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl View {
    /// Decodes a file to `side` × `side` pixels of three bytes, row by row.
    ///
    /// # Errors
    /// A file that cannot be read, is not an image, or is truncated.
    pub(super) fn of(&self, file: &Path, side: u32) -> Result<Vec<u8>> {
        let bytes = fs::read(file)?;
        // Guess the format from the content: one of ImageNet's .JPEG files is a PNG.
        let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format()?;
        ensure!(reader.format() != Some(ImageFormat::Jpeg) || ends(&bytes), "it is cut off");
        let image = reader.decode().context("it cannot be decoded")?;
        let (width, height) = (image.width(), image.height());
        ensure!(width > 0 && height > 0, "it has {width}×{height} pixels");
        Ok(self.square(&image.into_rgb8().into(), side).into_rgb8().into_raw())
    }

    fn square(&self, image: &DynamicImage, side: u32) -> DynamicImage {
        match self {
            View::Centre => centre(image, side),
            View::Random(rng) => {
                let mut rng = rng.clone();
                let piece = draw(image.width(), image.height(), &mut rng);
                let square = resize(&cut(image, piece), side, side);
                if rng.bool() { square.fliph() } else { square }
            }
        }
    }
}

/// Whether a JPEG is complete. The decoder fills missing pixels with gray instead of failing.
///
/// A complete JPEG has an end marker, and no start of a picture after it. An end marker alone is
/// not enough: a camera's file begins with a thumbnail, which has its own.
fn ends(jpeg: &[u8]) -> bool {
    const END: [u8; 2] = [0xff, 0xd9];
    const PICTURE: [u8; 2] = [0xff, 0xda];
    let end = jpeg.windows(2).rposition(|mark| mark == END);
    end.is_some_and(|end| !jpeg[end..].windows(2).any(|mark| mark == PICTURE))
}

/// The centre of the image, after its shorter side is resized to 8/7 of `side`.
fn centre(image: &DynamicImage, side: u32) -> DynamicImage {
    // Crop first: enlarging an image of 1×10,000 pixels would take gigabytes, only for its centre.
    let longest = image.width().min(image.height()).saturating_mul(8);
    let image = cut(image, middle(image.width(), image.height(), longest, longest));
    let (width, height) = (image.width(), image.height());
    let short = side * 256 / 224;
    let long = |other: u32, shorter: u32| {
        (u64::from(short) * u64::from(other) / u64::from(shorter)) as u32
    };
    let resized = if width < height {
        resize(&image, short, long(height, width))
    } else {
        resize(&image, long(width, height), short)
    };
    cut(&resized, middle(resized.width(), resized.height(), side, side))
}

/// The centred rectangle of at most the given size. Halves are rounded to even, as in Python.
fn middle(width: u32, height: u32, most_wide: u32, most_high: u32) -> Piece {
    let (new_width, new_height) = (width.min(most_wide), height.min(most_high));
    let start = |space: u32| (f64::from(space) / 2.).round_ties_even() as u32;
    Piece {
        left: start(width - new_width),
        top: start(height - new_height),
        width: new_width,
        height: new_height,
    }
}

/// A random rectangle with 8 % to 100 % of the area and an aspect ratio of 3:4 to 4:3. If none of
/// ten attempts fits into the image, the centre.
fn draw(width: u32, height: u32, rng: &mut Rng) -> Piece {
    const RATIOS: [f64; 2] = [3. / 4., 4. / 3.];
    let [flattest, widest] = RATIOS.map(f64::ln);
    let (wide, high) = (f64::from(width), f64::from(height));
    for _ in 0..10 {
        let area = wide * high * (0.08 + 0.92 * rng.f64());
        let ratio = (flattest + (widest - flattest) * rng.f64()).exp();
        let (w, h) = (
            (area * ratio).sqrt().round_ties_even() as u32,
            (area / ratio).sqrt().round_ties_even() as u32,
        );
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (rng.u32(0..=height - h), rng.u32(0..=width - w));
            return Piece { left, top, width: w, height: h };
        }
    }
    let [least, most] = RATIOS;
    let (most_wide, most_high) =
        ((high * most).round_ties_even() as u32, (wide / least).round_ties_even() as u32);
    middle(width, height, most_wide.max(1), most_high.max(1))
}

fn cut(image: &DynamicImage, piece: Piece) -> DynamicImage {
    image.crop_imm(piece.left, piece.top, piece.width, piece.height)
}

/// Bilinear over all pixels that become one pixel, as in Pillow. Calls a method of `DynamicImage`,
/// since a generic function would be compiled in this crate, unoptimised.
fn resize(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    image.resize_exact(width, height, FilterType::Triangle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    /// Red grows to the right and green to the bottom, each by one per pixel.
    fn ramps(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 7])).into()
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused_in_every_format() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for ending in ["jpeg", "png", "webp", "bmp"] {
            let file = dir.path().join("image").with_extension(ending);
            ramps(200, 200).save(&file)?;
            let whole = fs::read(&file)?;
            View::Centre.of(&file, 32)?;
            for length in [0, 3, whole.len() / 10, whole.len() / 2, whole.len() - 20] {
                fs::write(&file, &whole[..length])?;
                assert!(
                    View::Centre.of(&file, 32).is_err(),
                    "{length} of {} bytes of a {ending}",
                    whole.len()
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_jpeg_is_whole_where_its_own_picture_ends() -> Result<()> {
        let mut jpeg = Cursor::new(Vec::new());
        ramps(40, 40).write_to(&mut jpeg, ImageFormat::Jpeg)?;
        let jpeg = jpeg.into_inner();
        assert!(ends(&jpeg) && ends(&[&jpeg[..], b"what a camera adds"].concat()));
        // A complete thumbnail inside a truncated picture.
        let cut = [&jpeg[..], &jpeg[..jpeg.len() - 2]].concat();
        assert!(!ends(&cut) && !ends(&jpeg[..jpeg.len() - 1]) && !ends(&[]));
        Ok(())
    }

    #[test]
    fn the_middle_is_cut_out() {
        // A shorter side of 73 pixels is not resized. A centre of 64 pixels begins at 4.5, which
        // Python rounds to 4.
        let cut = centre(&ramps(73, 100), 64).into_rgb8();
        assert_eq!(cut.dimensions(), (64, 64));
        assert_eq!((cut.get_pixel(0, 0).0, cut.get_pixel(63, 63).0), ([4, 18, 7], [67, 81, 7]));
        // Resized to half: each pixel is the mean of about two pixels.
        let cut = centre(&ramps(200, 146), 64).into_rgb8();
        let Rgb([red, green, _]) = *cut.get_pixel(0, 0);
        assert!(red.abs_diff(36) <= 1 && green.abs_diff(9) <= 1, "{red} {green}");
        let Rgb([red, green, _]) = *cut.get_pixel(63, 63);
        assert!(red.abs_diff(163) <= 1 && green.abs_diff(135) <= 1, "{red} {green}");
    }

    #[test]
    fn pieces_are_of_the_wanted_area_and_shape() {
        let (mut areas, mut corners) = (Vec::new(), Vec::new());
        for image in 0..4000 {
            let piece = draw(500, 375, &mut Rng::with_seed(image));
            assert!(
                piece.left + piece.width <= 500 && piece.top + piece.height <= 375,
                "{piece:?}"
            );
            let ratio = f64::from(piece.width) / f64::from(piece.height);
            assert!((0.74..1.35).contains(&ratio), "{piece:?}");
            areas.push(f64::from(piece.width * piece.height) / (500. * 375.));
            corners.push(f64::from(piece.left) / f64::from(501 - piece.width));
        }
        assert!(areas.iter().all(|area| (0.079..1.001).contains(area)));
        // Small rectangles fit more often than large ones.
        let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((0.42..0.54).contains(&mean(&areas)) && (mean(&corners) - 0.5).abs() < 0.03);
    }

    #[test]
    fn what_no_piece_fits_into_gives_its_middle() {
        assert_eq!(
            draw(1, 3000, &mut Rng::with_seed(0)),
            Piece { left: 0, top: 1500, width: 1, height: 1 }
        );
        assert_eq!(
            draw(1000, 12, &mut Rng::with_seed(0)),
            Piece { left: 492, top: 0, width: 16, height: 12 }
        );
        assert_eq!(centre(&ramps(3, 4000), 32).into_rgb8().dimensions(), (32, 32));
        assert_eq!(centre(&ramps(1, 1), 32).into_rgb8().dimensions(), (32, 32));
    }

    #[test]
    fn a_drawn_square_is_a_piece_of_the_image_and_half_of_them_are_flipped() {
        let image = ramps(200, 160);
        let flipped = |seed| {
            let square = View::Random(Rng::with_seed(seed)).square(&image, 32).into_rgb8();
            let piece = draw(200, 160, &mut Rng::with_seed(seed));
            let (first, last) = (square.get_pixel(0, 0).0, square.get_pixel(31, 31).0);
            let flipped = first[0] > last[0];
            let (left, right) = if flipped { (last[0], first[0]) } else { (first[0], last[0]) };
            // Tolerance: the width of the filter at the border.
            let near = |pixel: u8, place: u32| {
                u32::from(pixel).abs_diff(place) <= 1 + piece.width.max(piece.height) / 32
            };
            assert!(
                near(left, piece.left) && near(right, piece.left + piece.width - 1),
                "{first:?} {last:?} {piece:?}"
            );
            assert!(
                near(first[1], piece.top) && near(last[1], piece.top + piece.height - 1),
                "{first:?} {last:?} {piece:?}"
            );
            flipped
        };
        let count = (0..200).filter(|seed| flipped(*seed)).count();
        assert!((70..130).contains(&count), "{count} of 200");
    }
}
