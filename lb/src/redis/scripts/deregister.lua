-- Removes a registration, also from the list.
-- KEYS: list, registration. ARGV: base, id.
redis.call('DEL', KEYS[2])
local list = read_list()
if list then
  local kept = {}
  for _, key in ipairs(list) do
    if id_of(key) ~= ARGV[2] then table.insert(kept, key) end
  end
  write_list(kept)
end
return redis.status_reply('OK')
