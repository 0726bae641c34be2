-- One row a flight that took place, with what is known before it leaves.
--
-- * Late means: it arrived more than 15 minutes after its schedule.
-- * Cancelled and diverted flights have no arrival delay: they are left out, so the model speaks of flights that fly.
--   They still count as traffic, because before departure nobody knows that they will be cancelled.
-- * Weather is the reading of the scheduled hour at the origin. It is joined by its time in UTC: a local hour occurs twice
--   when daylight saving time ends, and would double its flights. A wind of 1,048 miles an hour was not measured.
-- * Some carriers report fleet numbers in place of tail numbers, and the registry knows other aircraft by those names: a
--   helicopter, a Cessna of 1959. What has fewer than 20 seats did not fly the route: its aircraft counts as unknown.
-- * The date itself is kept for the split and not for learning: with one year of data it could only encode the season.
-- * The tail number is kept for whoever asks: what is known of an aircraft need not be said again.
with scheduled as (
    select
        *,
        make_date(year, month, day) as date,
        count(*) over (partition by origin, time_hour) as origin_flights,
        count(*) over (partition by dest, time_hour) as dest_flights
    from flights
)

select
    cast(s.date as varchar) || ' ' || s.origin || ' ' || s.carrier || cast(s.flight as varchar) as id,
    s.date,
    cast(s.arr_delay > 15 as bigint) as late,
    s.carrier,
    s.origin,
    s.dest,
    s.tailnum,
    s.sched_dep_time // 100 * 60 + s.sched_dep_time % 100 as departs,
    s.sched_arr_time // 100 * 60 + s.sched_arr_time % 100 as arrives,
    date_diff('day', date '2012-12-30', s.date) % 7 as weekday,
    s.distance,
    s.origin_flights,
    s.dest_flights,
    s.year - p.year as age,
    p.seats,
    p.engine,
    w.temp,
    w.dewp,
    w.humid,
    w.wind_dir,
    case when w.wind_speed < 150 then w.wind_speed end as wind_speed,
    w.wind_gust,
    w.precip,
    w.pressure,
    w.visib
from scheduled as s
left join weather as w on w.origin = s.origin and w.time_hour = s.time_hour
left join planes as p on p.tailnum = s.tailnum and p.seats >= 20
where s.arr_delay is not null
