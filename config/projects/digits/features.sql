-- One row a picture: its pixels from the upper left to the lower right, 0 (paper) to 16 (ink), as one array.
--
-- * The file gives its pictures no names. No two are alike, so the digest of the pixels names a picture, and the split by
--   it keeps two copies of one picture, should they ever come, on one side.
-- * The file tells who wrote nothing: some pictures of one hand are in train and others in test.
with pictures as (
    select
        cast([column00, column01, column02, column03, column04, column05, column06, column07,
              column08, column09, column10, column11, column12, column13, column14, column15,
              column16, column17, column18, column19, column20, column21, column22, column23,
              column24, column25, column26, column27, column28, column29, column30, column31,
              column32, column33, column34, column35, column36, column37, column38, column39,
              column40, column41, column42, column43, column44, column45, column46, column47,
              column48, column49, column50, column51, column52, column53, column54, column55,
              column56, column57, column58, column59, column60, column61, column62, column63] as double[64]) as pixels,
        column64 as digit
    from images
)

select
    md5(cast(pixels as varchar)) as id,
    digit,
    pixels
from pictures
