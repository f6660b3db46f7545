# frozen_string_literal: true

# Says hello. A module can be shared among Ractors, if it captures nothing and changes nothing.
module Hello
  def self.call(env)
    [200, { "content-type" => "text/plain" }, ["Hello from #{env['PATH_INFO']}\n"]]
  end
end

run Hello
