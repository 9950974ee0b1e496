-- wrk: posts arrays of BATCH status reports, each with a sid never used before.
local size = tonumber(os.getenv("BATCH"))
local salt = os.getenv("SALT")
local tail = '","user_receive_time":"2026-11-21 08:03:04","nationcode":"86","mobile":"13800138000",'
  .. '"report_status":"SUCCESS","errmsg":"DELIVRD","description":"The SMS message is successfully delivered"}'
local number = 0

function request()
  local items = {}
  for i = 1, size do
    number = number + 1
    items[i] = '{"sid":"' .. salt .. ":" .. number .. tail
  end
  return wrk.format("POST", "/sms/callback", nil, "[" .. table.concat(items, ",") .. "]")
end
