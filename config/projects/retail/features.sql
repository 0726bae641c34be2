-- One row a household, a day and a product that it may buy in the two weeks from that day, with what is known on it.
--
-- * Days are four weeks apart, from June on, so that twelve weeks lie before each.
-- * What a household may buy is what it bought in those twelve weeks, its forty most frequent products, and the thirty
--   products that most households bought in the last four.
-- * `wanted` counts all products that it bought in the two weeks, candidates or not: what a recommendation is measured by.
with sales as (
    select
        household_id,
        product_id,
        basket_id,
        date_diff('day', date '2017-01-01', cast(transaction_timestamp as date)) as day,
        sales_value,
        retail_disc
    from transactions
),

days as (
    select cast(range as bigint) as day from range(168, 337, 28)
),

own as (
    select
        d.day,
        s.household_id,
        s.product_id,
        count(distinct s.basket_id) as times,
        count(distinct case when s.day >= d.day - 28 then s.basket_id end) as times_lately,
        d.day - max(s.day) as days_since,
        max(s.day) - min(s.day) as days_between,
        max(s.sales_value) as price,
        count(case when s.retail_disc > 0 then 1 end) as discounted
    from days as d
    join sales as s on s.day < d.day and s.day >= d.day - 84
    group by d.day, s.household_id, s.product_id
),

households as (
    select
        d.day,
        s.household_id,
        count(distinct s.basket_id) as baskets,
        count(distinct s.product_id) as products,
        d.day - max(s.day) as away
    from days as d
    join sales as s on s.day < d.day and s.day >= d.day - 84
    group by d.day, s.household_id
),

sold as (
    select
        d.day,
        s.product_id,
        count(distinct s.household_id) as buyers,
        count(distinct case when s.day >= d.day - 28 then s.household_id end) as buyers_lately
    from days as d
    join sales as s on s.day < d.day and s.day >= d.day - 84
    group by d.day, s.product_id
),

own_placed as (
    select *, row_number() over (partition by day, household_id order by times desc, days_since, product_id) as place
    from own
),

popular as (
    select day, product_id, row_number() over (partition by day order by buyers_lately desc, product_id) as place
    from sold
),

candidates as (
    select day, household_id, product_id from own_placed where place <= 40
    union
    select h.day, h.household_id, p.product_id
    from households as h
    join popular as p on p.day = h.day and p.place <= 30
),

bought as (
    select distinct d.day, s.household_id, s.product_id
    from days as d
    join sales as s on s.day >= d.day and s.day < d.day + 14
),

wanted as (
    select day, household_id, count(*) as wanted from bought group by day, household_id
)

select
    cast(c.day as varchar) || ' ' || cast(c.household_id as varchar) || ' ' || cast(c.product_id as varchar) as id,
    date '2017-01-01' + cast(c.day as integer) as date,
    c.household_id,
    c.product_id,
    w.wanted,
    cast(b.product_id is not null as bigint) as buys,
    coalesce(o.times, 0) as times,
    coalesce(o.times_lately, 0) as times_lately,
    o.days_since,
    o.days_between,
    coalesce(o.discounted, 0) as discounted,
    o.price,
    h.baskets,
    h.products,
    h.away,
    s.buyers,
    s.buyers_lately,
    p.department
from candidates as c
join households as h on h.day = c.day and h.household_id = c.household_id
join sold as s on s.day = c.day and s.product_id = c.product_id
join wanted as w on w.day = c.day and w.household_id = c.household_id
left join own as o on o.day = c.day and o.household_id = c.household_id and o.product_id = c.product_id
left join bought as b on b.day = c.day and b.household_id = c.household_id and b.product_id = c.product_id
left join products as p on p.product_id = c.product_id
