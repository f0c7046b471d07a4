//! HTTP's dates (RFC 9110 §5.6.7): written in one form, read in all three. Has no clock.

use core::fmt;
use core::str::FromStr;

const SECONDS_PER_DAY: u64 = 86_400;
/// The last second with a year of four digits.
const MAX: u64 = 253_402_300_799;
/// Days from the start of an era, a 1st of March 400 n years AD, to 1970.
const DAYS_TO_1970: u64 = 719_468;
/// Days in 400 years, after which the calendar repeats itself.
const DAYS_PER_ERA: u64 = 146_097;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A date, from 1970 to 9999, to the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HttpDate(u64);

/// What was to be read is no date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoDate;

impl HttpDate {
    /// So many seconds after the start of 1970; at most the end of 9999.
    pub const fn from_unix(seconds: u64) -> Self {
        Self(if seconds < MAX { seconds } else { MAX })
    }

    /// Its seconds since the start of 1970.
    pub const fn unix(self) -> u64 {
        self.0
    }
}

impl fmt::Display for HttpDate {
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / SECONDS_PER_DAY, self.0 % SECONDS_PER_DAY);
        // Years that begin in March end with the leap day, so that months have the same lengths in all.
        let era_days = days + DAYS_TO_1970;
        let (era, day) = (era_days / DAYS_PER_ERA, era_days % DAYS_PER_ERA);
        let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + u64::from(march_month >= 10);
        write!(
            f,
            "{}, {day_of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            name(&WEEKDAYS, days % 7),
            name(&MONTHS, (march_month + 2) % 12),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

impl FromStr for HttpDate {
    type Err = NoDate;

    /// The day of the week is not looked at.
    fn from_str(text: &str) -> Result<Self, NoDate> {
        let mut words = [""; 6];
        for (index, word) in text.split([' ', '-', ',']).filter(|word| !word.is_empty()).enumerate() {
            *words.get_mut(index).ok_or(NoDate)? = word;
        }
        let seconds = match words {
            // `Sun, 06 Nov 1994 08:49:37 GMT` or `Sunday, 06-Nov-94 08:49:37 GMT`
            [_, day, month, year, time, "GMT"] => seconds(year, month, day, time),
            // `Sun Nov  6 08:49:37 1994`
            [_, month, day, time, year, ""] => seconds(year, month, day, time),
            _ => None,
        };
        seconds.map(Self).ok_or(NoDate)
    }
}

fn seconds(year: &str, month: &str, day: &str, time: &str) -> Option<u64> {
    let year = match (year.len(), number(year)?) {
        (4, year @ 1970..) => year,
        // Two digits were given up before 2000, and nothing here is older than 1970.
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        _ => return None,
    };
    let month = u64::try_from(MONTHS.iter().position(|known| *known == month)?).ok()?;
    let mut clock = time.split(':').map(number);
    let (Some(hour), Some(minute), Some(second), None) =
        (clock.next()?, clock.next()?, clock.next()?, clock.next())
    else {
        return None;
    };
    let day = number(day)?;
    let in_range = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    in_range.then(|| {
        let march_month = (month + 10) % 12;
        let year = if march_month >= 10 { year - 1 } else { year };
        let day_of_year = (153 * march_month + 2) / 5 + day - 1;
        let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
        // A leap second counts as the one before it.
        (days - DAYS_TO_1970) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second.min(59)
    })
}

/// A number of at most four digits.
fn number(digits: &str) -> Option<u64> {
    let all_digits = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}
