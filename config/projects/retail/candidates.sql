-- One row a household and a product that it may buy in the two weeks after the newest day, with what is known by then.
--
-- The same candidates and the same columns as in features.sql, but for one day alone, and without what nobody knows yet.
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
    select max(day) + 1 as day from sales
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
)

select
    cast(c.day as varchar) || ' ' || cast(c.household_id as varchar) || ' ' || cast(c.product_id as varchar) as id,
    c.household_id,
    c.product_id,
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
left join own as o on o.day = c.day and o.household_id = c.household_id and o.product_id = c.product_id
left join products as p on p.product_id = c.product_id
