//! Numbers on a grid of widths, with bilinear interpolation.

use serde::{Deserialize, Serialize};

/// Limits on a grid that is read from a file, so that the interpolation cannot overflow.
const MOST_WIDTH: u64 = 1 << 32;
const MOST_VALUE: u64 = 1 << 50;

/// Positive integers at the crossings of some numbers of rows with some numbers of columns.
///
/// Serialises with one text for each number of rows: `{"rows": "8,16", "columns": "3", "values":
/// ["410", "620"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub(crate) struct Grid {
    /// Numbers of rows, ascending.
    rows: Vec<u64>,
    /// Numbers of columns, ascending.
    columns: Vec<u64>,
    /// The value of each crossing, row by row.
    values: Vec<u64>,
}

impl Grid {
    /// A grid of values, given row by row.
    ///
    /// # Errors
    /// The rule that the numbers break.
    pub(crate) fn new(rows: Vec<u64>, columns: Vec<u64>, values: Vec<u64>) -> Result<Self, String> {
        for (name, widths) in [("rows", &rows), ("columns", &columns)] {
            let ascends = widths.windows(2).all(|pair| pair[0] < pair[1]);
            let fits = widths.iter().all(|width| (1..=MOST_WIDTH).contains(width));
            if widths.is_empty() || !ascends || !fits {
                return Err(format!(
                    "the numbers of {name} are {widths:?}; they must ascend, from at least 1"
                ));
            }
        }
        if values.len() != rows.len() * columns.len() {
            return Err(format!(
                "there are {} values for {} × {} crossings",
                values.len(),
                rows.len(),
                columns.len()
            ));
        }
        match values.iter().find(|value| !(1..=MOST_VALUE).contains(*value)) {
            Some(value) => Err(format!("a value is {value}; it must be positive")),
            None => Ok(Self { rows, columns, values }),
        }
    }

    /// The numbers of rows and of columns, ascending.
    pub(crate) fn widths(&self) -> [&[u64]; 2] {
        [&self.rows, &self.columns]
    }

    /// Whether no value is above the other grid's.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.values.iter().zip(&other.values).all(|(value, other)| value <= other)
    }

    /// Whether the grid reaches to these numbers of rows and columns.
    pub(crate) fn has(&self, [rows, columns]: [u64; 2]) -> bool {
        let within =
            |widths: &[u64], width| widths.first() <= Some(&width) && Some(&width) <= widths.last();
        within(&self.rows, rows) && within(&self.columns, columns)
    }

    /// The grid in which each value is the largest value up to there, so that no value falls when a
    /// width grows.
    pub(crate) fn monotone(&self) -> Self {
        let mut grid = self.clone();
        let count = self.columns.len();
        for index in 0..grid.values.len() {
            let above = index.checked_sub(count).map(|above| grid.values[above]);
            let left = (index % count > 0).then(|| grid.values[index - 1]);
            let largest = above.into_iter().chain(left).fold(grid.values[index], u64::max);
            grid.values[index] = largest;
        }
        grid
    }

    /// The value for a number of rows and of columns: interpolated between the nearest crossings in
    /// both directions, and rounded to the nearest integer. Beyond the grid it is that of the
    /// border.
    pub(crate) fn at(&self, rows: u64, columns: u64) -> u64 {
        let (row, down, height) = place(&self.rows, rows);
        let (column, right, width) = place(&self.columns, columns);
        let value = |below: usize, beside: usize| {
            let (row, column) = (row + below, column + beside);
            u128::from(self.values[row * self.columns.len() + column])
        };
        let (height, width) = (u128::from(height), u128::from(width));
        let (down, right) = (u128::from(down), u128::from(right));
        let between = |below: usize| {
            let first = value(below, 0) * (width - right);
            if right == 0 { first } else { first + value(below, 1) * right }
        };
        let first = between(0) * (height - down);
        let sum = if down == 0 { first } else { first + between(1) * down };
        let area = height * width;
        // A mean of values that fit.
        ((sum + area / 2) / area) as u64
    }
}

/// Where a width is among ascending widths: the position of the last that is not larger, the
/// distance from it, and the distance of the next from it.
fn place(widths: &[u64], width: u64) -> (usize, u64, u64) {
    let index = widths.partition_point(|&known| known <= width).saturating_sub(1);
    match widths.get(index + 1) {
        Some(next) => (index, width.saturating_sub(widths[index]), next - widths[index]),
        None => (index, 0, 1),
    }
}

/// [`Grid`] in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    rows: String,
    columns: String,
    values: Vec<String>,
}

impl From<Grid> for Form {
    fn from(Grid { rows, columns, values }: Grid) -> Self {
        let values = values.chunks(columns.len()).map(text).collect();
        Self { rows: text(&rows), columns: text(&columns), values }
    }
}

impl TryFrom<Form> for Grid {
    type Error = String;

    fn try_from(Form { rows, columns, values }: Form) -> Result<Self, String> {
        let (rows, columns) = (numbers(&rows)?, numbers(&columns)?);
        let values = values.iter().map(|row| numbers(row)).collect::<Result<Vec<_>, _>>()?;
        if values.len() != rows.len() || values.iter().any(|row| row.len() != columns.len()) {
            return Err(format!(
                "the values are not {} texts of {} numbers each",
                rows.len(),
                columns.len()
            ));
        }
        Grid::new(rows, columns, values.concat())
    }
}

/// `1,8,16`
fn text(numbers: &[u64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
    numbers.join(",")
}

fn numbers(text: &str) -> Result<Vec<u64>, String> {
    let number = |digits: &str| {
        digits
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is no list of numbers such as `1,8,16`"))
    };
    text.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid::new(vec![1, 8, 16], vec![2, 6], vec![10, 30, 80, 120, 100, 400]).unwrap()
    }

    #[test]
    fn values_between_crossings_are_the_formula() {
        let (grid, corners) = (grid(), [[10., 30.], [80., 120.], [100., 400.]]);
        for (rows, columns) in (1..=16).flat_map(|rows| (2..=6).map(move |columns| (rows, columns)))
        {
            let (first, low, high) = if rows < 8 { (0, 1., 8.) } else { (1, 8., 16.) };
            let down = (rows as f64 - low) / (high - low);
            let right = (columns as f64 - 2.) / 4.;
            let between = |row: usize| corners[row][0] * (1. - right) + corners[row][1] * right;
            // At the last row, the fraction is 1.
            let expected = between(first) * (1. - down) + between(first + 1) * down;
            let found = grid.at(rows, columns);
            assert!((found as f64 - expected).abs() <= 0.5 + 1e-9, "{rows} × {columns}: {found}");
        }
        assert_eq!((grid.at(1, 2), grid.at(8, 6), grid.at(16, 6)), (10, 120, 400));
        // The border.
        assert_eq!((grid.at(0, 1), grid.at(99, 99), grid.at(99, 2)), (10, 400, 100));
    }

    #[test]
    fn a_product_of_widths_is_exact_everywhere() {
        let (rows, columns) = (vec![1, 5, 64], vec![1, 3, 7, 512]);
        let values =
            rows.iter().flat_map(|row| columns.iter().map(move |column| 1000 * row * column));
        let values = values.collect();
        let grid = Grid::new(rows.clone(), columns.clone(), values).unwrap();
        for (row, column) in [(2, 2), (63, 511), (33, 100), (64, 6)] {
            assert_eq!(grid.at(row, column), 1000 * row * column);
        }
    }

    #[test]
    fn a_wider_layer_is_never_faster_in_a_monotone_grid() {
        let grid = Grid::new(vec![1, 4, 9], vec![1, 2, 5], vec![5, 4, 9, 7, 3, 8, 6, 20, 2]);
        let grid = grid.unwrap().monotone();
        assert_eq!(grid.values, [5, 5, 9, 7, 7, 9, 7, 20, 20]);
        for (row, column) in (1..9).flat_map(|row| (1..5).map(move |column| (row, column))) {
            assert!(grid.at(row, column) <= grid.at(row + 1, column));
            assert!(grid.at(row, column) <= grid.at(row, column + 1));
        }
    }

    #[test]
    fn files_have_one_text_for_each_number_of_rows() {
        let json = r#"{"rows":"1,8,16","columns":"2,6","values":["10,30","80,120","100,400"]}"#;
        assert_eq!(serde_json::to_string(&grid()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Grid>(json).unwrap(), grid());
        let error = |from: &str, to: &str| {
            serde_json::from_str::<Grid>(&json.replace(from, to)).unwrap_err().to_string()
        };
        assert!(error("1,8", "8,8").contains("they must ascend"));
        assert!(error("1,8", "0,8").contains("at least 1"));
        assert!(error("1,8,16", "1,8").contains("not 2 texts of 2 numbers"));
        assert!(error("80,120", "0,120").contains("it must be positive"));
        assert!(error("80,120", "-8,120").contains("no list of numbers"));
        assert!(error("80,120", "1.5,120").contains("no list of numbers"));
        assert!(error("80,120", "80").contains("2 numbers each"));
        assert!(error("80,120", "80,99999999999999999").contains("a value is 99999999999999999"));
        assert!(error("2,6", "").contains("no list of numbers"));
    }
}
