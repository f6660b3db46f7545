# frozen_string_literal: true

RSpec.describe "The mode" do
  # The mode that :auto finds, and what it says about it.
  def auto(app)
    mode = nil
    said = errors_of { mode = Kino::Server.new(app, mode: :auto).mode }
    [mode, said]
  end

  if RUBY_VERSION >= "4"
    it "is ractor where the app can be shared" do
      expect(auto(Apps::Hello)).to eq [:ractor, ""]
    end

    it "is threaded, with the reason in one line, where the app cannot be shared" do
      app = Struct.new(:lock) { def call(_) = [200, {}, []] }.new(Mutex.new)
      expect(auto(app)).to eq [:threaded, "kino: mode threaded, as the app.lock is a Thread::Mutex\n"]
      expect(app).not_to be_frozen
    end

    it "is threaded where the app is a class with state that cannot be shared" do
      app = Module.new { @count = [0] }
      app.define_singleton_method(:call) { |_| [200, {}, []] }
      expect(auto(app)).to match [:threaded, /as .*\.@count \(Array\)/]
    end
  else
    it "is threaded before Ruby 4.0, with the reason in one line" do
      expect(auto(Apps::Hello))
        .to eq [:threaded, "kino: mode threaded, as before Ruby 4.0 Ractors are slower than threads\n"]
    end
  end

  it "ractor refuses an app that cannot be shared, and leaves it as it is" do
    app = Struct.new(:parts) { def call(_) = [200, {}, []] }.new([[{ key: $stdout }]])
    expect { Kino::Server.new(app, mode: :ractor) }
      .to raise_error(Kino::UnshareableAppError, /the app\.parts\[0\]\[0\]\[:key\] is a IO/)
    expect([app, app.parts, $stdout].map(&:frozen?)).to eq [false, false, false]
  end
end
